// Each kind of page has its own module; what a page must leave behind, and how it speaks, is common to all.
import { startTimes } from "./time.js";
import { watchEnrol } from "./enrol.js";
import { watchKiosk } from "./kiosk.js";
import { watchAccount } from "./me.js";
import { goLater } from "./later.js";
import { leaveNothing } from "./private.js";
import { returnHome } from "./home.js";
import { Scan } from "./scan.js";

const main = document.getElementById("main");
leaveNothing(main);
startTimes();

switch (main.dataset.page) {
  case "scan":
    new Scan(main).begin();
    break;
  case "me":
    watchAccount(main);
    break;
  case "kiosk":
    watchKiosk(main);
    break;
  case "enrol":
    watchEnrol(main);
    break;
  case "later":
    goLater(main);
    break;
  case "out":
    returnHome(main);
    break;
}

// Everything here only adds to pages that work without it: links, forms, popovers and dialogs are plain HTML.
import { startCopying } from "./copy.js";
import { startDialogs } from "./dialog.js";
import { startLive } from "./live.js";
import { startRail } from "./rail.js";
import { startSearch } from "./search.js";
import { startTimes } from "./time.js";

startTimes();
startCopying();
startDialogs();
startLive();
startRail();
startSearch();

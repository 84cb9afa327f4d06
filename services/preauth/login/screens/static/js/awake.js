// A phone in the hand does not go dark while its owner waits for the tap. Where the browser cannot, nothing is lost.
export async function stayAwake(wanted) {
  const held = await navigator.wakeLock?.request("screen").catch(() => null);
  if (!held) return;
  const checking = setInterval(() => {
    if (wanted()) return;
    clearInterval(checking);
    held.release();
  }, 1000);
}

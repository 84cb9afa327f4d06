// A page that is good for a while only, and then goes on by itself.
export function goLater({ dataset }) {
  setTimeout(() => location.replace(dataset.next), Number(dataset.after) * 1000);
}

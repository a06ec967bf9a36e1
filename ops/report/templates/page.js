"use strict";
// Shows the cell under the pointer below the confusion matrix: 160,000 titles would be too many.
const map = document.querySelector("svg.heat");
if (map) {
  const names = JSON.parse(map.dataset.names);
  const videos = JSON.parse(map.dataset.videos);
  const counts = new Map(JSON.parse(map.dataset.cells).map(([row, column, count]) => [row * names.length + column, count]));
  const frame = map.querySelector("rect.frame");
  const line = document.getElementById("cell");
  map.addEventListener("pointermove", (event) => {
    const box = frame.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left) / box.width * names.length);
    const row = Math.floor((event.clientY - box.top) / box.height * names.length);
    if (!(row in names && column in names)) return;
    const count = counts.get(row * names.length + column) || 0;
    line.textContent = row === column
      ? `${names[row]}: ${count} of ${videos[row]} videos are right`
      : `${names[row]}: ${count} of ${videos[row]} videos are predicted as ${names[column]}`;
  });
}

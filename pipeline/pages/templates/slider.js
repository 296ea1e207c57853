"use strict";
// A slider moves the strip of its stack behind the frame of the picture.
document.querySelectorAll(".stack input").forEach((slider) => {
  const figure = slider.closest("figure");
  const picture = figure.querySelector("img");
  const numbers = slider.dataset.numbers.split(" ");
  const said = picture.alt;
  slider.addEventListener("input", () => {
    const text = `${slider.dataset.word} ${numbers[slider.value]} of ${slider.dataset.depth}`;
    picture.style.objectPosition = `0 ${(100 * slider.value) / slider.max}%`;
    picture.alt = said.replace(/^\S+ \d+ of \d+/, text);
    slider.setAttribute("aria-valuetext", text);
    figure.querySelector(".where").textContent = text;
  });
});

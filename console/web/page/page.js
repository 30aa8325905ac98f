// What textual-serve's own page does with a template, and what it leaves out: the address of the websocket comes from
// the browser, since over `ssh -L` the port is another one; the font is there before the terminal is measured; the
// keyboard works without a click.
"use strict";

const FONT_PX = { least: 8, usual: 16, most: 40 };
const terminal = document.getElementById("terminal");
const asked = Number(new URLSearchParams(location.search).get("fontsize")) || FONT_PX.usual;
terminal.dataset.sessionWebsocketUrl = `ws://${location.host}/ws`;
terminal.dataset.fontSize = String(Math.min(Math.max(asked, FONT_PX.least), FONT_PX.most));

const start = window.onload;
window.onload = async (event) => {
  await Promise.allSettled([
    document.fonts.load(`${asked}px "Roboto Mono"`),
    document.fonts.load(`bold ${asked}px "Roboto Mono"`),
  ]);
  start(event);
};

const again = document.getElementById("again");
again.addEventListener("click", () => location.reload());
// textual-serve's script puts classes on the body: `-loaded` once the line is open, `-closed` once it is not.
new MutationObserver(() => {
  const state = document.body.classList;
  if (state.contains("-closed")) again.focus();
  else if (state.contains("-loaded")) document.querySelector(".xterm-helper-textarea").focus();
}).observe(document.body, { attributeFilter: ["class"] });

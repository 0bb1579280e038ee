// Every element that holds text of its own: its size, and its contrast with the first opaque background.
() => {
  const numbers = colour => (colour.match(/[\d.]+/g) || []).map(Number);
  const linear = v => v <= 10 ? v / 255 / 12.92 : ((v / 255 + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => .2126 * linear(r) + .7152 * linear(g) + .0722 * linear(b) + .05;
  const behind = e => {
    for (; e; e = e.parentElement) {
      const colour = numbers(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const own = e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
  const seen = e => e.getClientRects().length && !e.closest('.hide, .skip');
  return [...document.querySelectorAll('body *')].filter(e => own(e) && seen(e)).map(e => {
    const style = getComputedStyle(e), a = light(numbers(style.color)), b = light(behind(e));
    return {text: e.textContent.trim().slice(0, 40), size: parseFloat(style.fontSize),
            contrast: Math.max(a, b) / Math.min(a, b)};
  });
}

// Of all elements that hold text of their own: how many there are, the one with the smallest text, and the one
// with the least contrast to the first opaque background behind it.
() => {
  const numbers = colour => (colour.match(/[\d.]+/g) || []).map(Number);
  const linear = v => v <= 10 ? v / 255 / 12.92 : ((v / 255 + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => .2126 * linear(r) + .7152 * linear(g) + .0722 * linear(b) + .05;
  const known = new Map();  // a page has thousands of texts before a few backgrounds
  const behind = e => {
    if (!e) return light([255, 255, 255]);
    if (!known.has(e)) {
      const colour = numbers(getComputedStyle(e).backgroundColor);
      known.set(e, colour.length === 3 || colour[3] === 1 ? light(colour) : behind(e.parentElement));
    }
    return known.get(e);
  };
  const own = e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
  const seen = e => e.getClientRects().length && !e.closest('.hide, .skip');
  const texts = [...document.querySelectorAll('body *')].filter(e => own(e) && seen(e)).map(e => {
    const style = getComputedStyle(e), a = light(numbers(style.color)), b = behind(e);
    return {text: e.textContent.trim().slice(0, 40), size: parseFloat(style.fontSize),
            contrast: Math.max(a, b) / Math.min(a, b)};
  });
  const least = name => texts.reduce((a, b) => b[name] < a[name] ? b : a);
  return {count: texts.length, smallest: least('size'), faintest: least('contrast')};
}

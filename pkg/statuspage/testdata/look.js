// What a person sees: computed by the browser that shows it.
function color(text) {
  const m = text.match(/[\d.]+/g).map(Number);
  return { r: m[0], g: m[1], b: m[2], a: m.length > 3 ? m[3] : 1 };
}
function over(top, below) {
  const mix = (x, y) => x * top.a + y * (1 - top.a);
  return { r: mix(top.r, below.r), g: mix(top.g, below.g), b: mix(top.b, below.b), a: 1 };
}
function luminance({ r, g, b }) {
  const [x, y, z] = [r, g, b].map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
}
function contrast(a, b) {
  const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p);
  return (x + 0.05) / (y + 0.05);
}
// behind is what an element's text is painted on.
function behind(e) {
  const box = e.closest('g.box');
  if (box) return color(getComputedStyle(box.querySelector('rect')).fill);
  let result = { r: 0, g: 0, b: 0, a: 0 };
  for (let at = e; at && result.a < 1; at = at.parentElement) {
    const here = color(getComputedStyle(at).backgroundColor);
    if (result.a === 0) result = here;
    else result = over(result, here);
  }
  return result;
}
function contrasts() {
  const wrong = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const e = node.parentElement;
    if (!node.textContent.trim() || !e.checkVisibility() || e.closest('.hidden, .skip, title, desc')) continue;
    const style = getComputedStyle(e);
    const text = e instanceof SVGElement ? color(style.fill) : color(style.color);
    const ratio = contrast(over(text, behind(e)), behind(e));
    seen++;
    if (ratio < 4.5) wrong.push(`the contrast of ${JSON.stringify(node.textContent.trim().slice(0, 40))} is ${ratio.toFixed(2)}`);
  }
  if (seen < 5) wrong.push(`only ${seen} texts were looked at`);
  return wrong;
}
function focusable() {
  return [...document.querySelectorAll('a[href], button, input:not([type=hidden]), summary, [tabindex="0"]')].filter((e) => e.checkVisibility());
}
function describe(e) {
  return `${e.nodeName}${e.id ? '#' + e.id : ''} ${(e.getAttribute('href') || e.getAttribute('aria-label') || e.innerText || '').trim().slice(0, 30)}`;
}
function focusSeen(e) {
  const style = getComputedStyle(e);
  return e.matches('main') || (style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2 && contrast(color(style.outlineColor), behind(e.parentElement)) >= 3);
}

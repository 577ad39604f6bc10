/**
 * What is wrong with how the page lies on the screen, as sentences: text that is cut off, sticks
 * out of its box or lies upon other text, boxes beyond their parent or the screen, and targets
 * smaller than 24 pixels. Where a dialog is open, only it is looked at.
 */
() => {
  const SLACK = 1.5; // pixels that rounding may cost
  const TARGET = 24; // pixels, WCAG 2.2's least side of a target
  const root = document.querySelector("dialog:modal") ?? document.body;
  const wide = document.documentElement.clientWidth;
  const problems = new Set();

  const shown = (element) =>
    element.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && !element.closest(".unseen");
  const name = (element) => {
    const text = (element.textContent || element.alt || "").trim().replace(/\s+/g, " ").slice(0, 30);
    return `<${element.localName}${element.id && `#${element.id}`} class="${element.getAttribute("class") ?? ""}"> “${text}”`;
  };

  /** The part of `box` that scrolling ancestors of `element` show now, or null where none. */
  function unscrolled(box, element) {
    let { left, right, top, bottom } = box;
    for (let each = element; each !== root; each = each.parentElement) {
      if (!/auto|scroll/.test(getComputedStyle(each).overflow)) continue;
      const edge = each.getBoundingClientRect();
      [left, right] = [Math.max(left, edge.left), Math.min(right, edge.right)];
      [top, bottom] = [Math.max(top, edge.top), Math.min(bottom, edge.bottom)];
    }
    return left < right && top < bottom ? { left, right, top, bottom } : null;
  }

  const within = (box, edge) => box.left >= edge.left - SLACK && box.right <= edge.right + SLACK;

  // Boxes, within their parents and the screen.
  const elements = [...root.querySelectorAll("*")].filter(shown);
  for (const element of elements) {
    const whole = element.getBoundingClientRect();
    if (!whole.width || !whole.height) continue;
    const box = unscrolled(whole, element);
    const drawn = !element.closest("svg svg, .heat"); // these cut off what it need not show
    if (box && drawn && (box.left < -SLACK || box.right > wide + SLACK || box.top + scrollY < -SLACK))
      problems.add(`off the screen: ${name(element)}`);
    const { display, position } = getComputedStyle(element);
    let parent = element.parentElement;
    while (getComputedStyle(parent).display === "contents") parent = parent.parentElement; // it has no box
    const edge = parent.getBoundingClientRect();
    // What is exactly as wide as the screen is meant to be, whatever it stands in.
    const bleeds = Math.abs(whole.left) < SLACK && Math.abs(whole.right - wide) < SLACK;
    if (!(element instanceof HTMLElement) || /absolute|fixed/.test(position)) continue;
    if (/^(inline|table-|contents)/.test(display) || /auto|scroll/.test(getComputedStyle(parent).overflow)) continue;
    if (!(bleeds || within(whole, edge)) || whole.top < edge.top - SLACK || whole.bottom > edge.bottom + SLACK)
      problems.add(`beyond its parent: ${name(element)}`);
  }

  // Text, line by line. A line's box is taller than its letters: what counts is their middle.
  const lines = [];
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode;
    const element = text.parentElement;
    if (!text.data.trim() || !shown(element) || element.closest("option")) continue;
    const turned = element.closest("[transform*=rotate]");
    const half = 0.35 * parseFloat(getComputedStyle(element).fontSize) * (element.ownerSVGElement?.getScreenCTM().a ?? 1);
    const range = document.createRange();
    range.selectNodeContents(text);
    for (const whole of range.getClientRects()) {
      const middle = (whole.top + whole.bottom) / 2;
      const letters = { left: whole.left, right: whole.right, top: middle - half, bottom: middle + half };
      const line = whole.width > 1 && unscrolled(letters, element);
      if (!line) continue;
      for (let each = element; each !== root; each = each.parentElement) {
        const { display, overflow } = getComputedStyle(each);
        const edge = each.getBoundingClientRect();
        const cut = !within(line, edge) || line.top < edge.top - SLACK || line.bottom > edge.bottom + SLACK;
        if (cut && /hidden|clip/.test(overflow)) problems.add(`cut off: ${name(element)}`);
        if (cut && each === element && each instanceof HTMLElement && display !== "inline")
          problems.add(`text out of its box: ${name(element)}`);
      }
      if (!turned) lines.push({ ...line, text, element });
    }
  }
  lines.sort((a, b) => a.top - b.top);
  for (const [at, a] of lines.entries()) {
    for (let next = at + 1; next < lines.length && lines[next].top < a.bottom; next += 1) {
      const b = lines[next];
      if (a.text !== b.text && Math.min(a.right, b.right) - Math.max(a.left, b.left) > SLACK)
        problems.add(`on each other: ${name(a.element)} and ${name(b.element)}`);
    }
  }

  // Targets: a square about the middle must hit what it belongs to. Links within a sentence may be smaller.
  const selector = "a[href], button, select, summary, input, label[for], [tabindex='0']";
  for (const element of root.querySelectorAll(selector)) {
    if (!shown(element) || element.disabled) continue;
    const inline = getComputedStyle(element).display === "inline";
    if (inline && element.parentElement.textContent.trim() !== element.textContent.trim()) continue;
    element.scrollIntoView({ block: "center", inline: "center" });
    const { left, top, width, height } = (element.closest("label") ?? element).getBoundingClientRect();
    const reach = TARGET / 2 - 0.5;
    for (const [x, y] of [[-1, -1], [1, -1], [-1, 1], [1, 1]]) {
      const hit = document.elementFromPoint(left + width / 2 + x * reach, top + height / 2 + y * reach);
      if (!element.contains(hit) && hit?.closest("label")?.control !== element)
        problems.add(`too small a target: ${name(element)}, ${Math.round(width)}×${Math.round(height)}`);
    }
  }
  scrollTo(0, 0);

  if (document.documentElement.scrollWidth > wide) problems.add("the page scrolls sideways");
  return [...problems];
}

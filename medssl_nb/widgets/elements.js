// What the scripts of several widgets need. Python puts it in front of them: see scripts.py.

/** An element of SVG. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** An element of HTML. */
function html(tag, name, ...children) {
  const element = document.createElement(tag);
  element.className = name;
  element.append(...children);
  return element;
}

const bytesOf = (view) => new Uint8Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));

/** The address of a picture of codes in the palette's colours, one pixel each. */
function painted(codes, columns, palette) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [columns, codes.length / columns];
  const pixels = new ImageData(columns, canvas.height);
  codes.forEach((code, k) => pixels.data.set([...palette.subarray(3 * code, 3 * code + 3), 255], 4 * k));
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas.toDataURL();
}

// Makes the folder that page.mjs expects to be shared: node tests/browser/tree.mjs DIR [ENTRIES]
// ENTRIES (100000 unless given) is the number of files in `many`.
import { copyFileSync, mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { deflateSync, crc32 as zlibCrc } from 'node:zlib';

function crc(data) {
  if (zlibCrc) return zlibCrc(data);
  let sum = ~0;
  for (const byte of data) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit += 1) sum = sum & 1 ? (sum >>> 1) ^ 0xedb88320 : sum >>> 1;
  }
  return ~sum >>> 0;
}

function chunk(type, data) {
  const out = Buffer.alloc(12 + data.length);
  out.writeUInt32BE(data.length);
  out.write(type, 4);
  data.copy(out, 8);
  out.writeUInt32BE(crc(out.subarray(4, 8 + data.length)), 8 + data.length);
  return out;
}

// A picture with one colour fading into another.
export function png(width, height, from, to) {
  const line = width * 3 + 1;
  const raw = Buffer.alloc(line * height);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      for (let part = 0; part < 3; part += 1) raw[y * line + 1 + x * 3 + part] = from[part] + ((to[part] - from[part]) * y) / height;
    }
  }
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width);
  head.writeUInt32BE(height, 4);
  head.set([8, 2], 8);
  return Buffer.concat([Buffer.from('89504e470d0a1a0a', 'hex'), chunk('IHDR', head), chunk('IDAT', deflateSync(raw)), chunk('IEND', Buffer.alloc(0))]);
}

// Silence in 16 bits, two channels, 44.1 kHz: what a browser does not read at once, so that it has to seek.
function silence(path, seconds) {
  const bytes = seconds * 44_100 * 4;
  const head = Buffer.alloc(44);
  head.write('RIFF', 0);
  head.writeUInt32LE(36 + bytes, 4);
  head.write('WAVEfmt ', 8);
  head.writeUInt32LE(16, 16);
  for (const [at, value] of [[20, 1], [22, 2], [32, 4], [34, 16]]) head.writeUInt16LE(value, at);
  head.writeUInt32LE(44_100, 24);
  head.writeUInt32LE(44_100 * 4, 28);
  head.write('data', 36);
  head.writeUInt32LE(bytes, 40);
  writeFileSync(path, head);
  truncateSync(path, 44 + bytes);
}

export function makeTree(dir, entries = 100_000) {
  const put = (path, data) => {
    mkdirSync(join(dir, path, '..'), { recursive: true });
    writeFileSync(join(dir, path), data);
  };
  put('Holiday/beach.png', png(900, 600, [120, 190, 240], [235, 205, 150]));
  put('Holiday/dunes.png', png(600, 800, [230, 170, 90], [150, 90, 50]));
  put('Holiday/sunset.png', png(800, 500, [250, 150, 80], [90, 40, 90]));
  put('Holiday/notes from the trip.txt', 'Day one: the sea.\n'.repeat(30));
  mkdirSync(join(dir, 'Media'));
  silence(join(dir, 'Media/waves.wav'), 240);
  // 12 s of VP8 in which the colour goes round, 320 x 180, with cues.
  copyFileSync(join(dirname(fileURLToPath(import.meta.url)), 'clip.webm'), join(dir, 'Media/clip.webm'));
  put('main.rs', 'fn main() {\n    println!("hello");\n}\n');
  put('big.txt', '0123456789abcdef\n'.repeat(40_000));
  put('<img src=x onerror=alert(1)>.txt', 'markup');
  put('evil\u202egnp.exe', 'x');
  put('line\nbreak\u0007.txt', 'x');
  put('100% & "quoted" \'name\' #?.txt', 'ok');
  for (let n = 0; n < entries; n += 1) put(`many/file ${String(n).padStart(6, '0')}.txt`, '');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (!process.argv[2]) {
    console.error('usage: node tests/browser/tree.mjs DIR [ENTRIES]');
    process.exit(2);
  }
  makeTree(process.argv[2], Number(process.argv[3] || 100_000));
}

'use strict';
(() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  const report = document.getElementById('report');
  const redraws = [];
  const TYPES = ['string', 'list', 'set', 'zset', 'hash', 'stream', 'module', 'array', 'path hash'];
  const HUES = [214, 162, 32, 275, 344, 192, 52, 108, 244, 12];

  // Text is always set as text: names of keys are anybody's bytes.
  function build(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
      else if (name === 'style') node.style.cssText = value;
      else node.setAttribute(name, value === true ? '' : value);
    }
    for (const child of children.flat()) if (child !== null && child !== undefined) node.append(child);
    return node;
  }
  const h = (tag, attributes, ...children) => build(document.createElement(tag), attributes, children);
  const s = (tag, attributes, ...children) =>
    build(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);

  const count = (n) => n.toLocaleString('en-US');
  function bytes(n) {
    const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];
    let unit = 0;
    for (; n >= 1023.95 && unit < units.length - 1; unit++) n /= 1024;
    return (unit ? n.toFixed(n < 99.95 ? 1 : 0) : Math.round(n)) + ' ' + units[unit];
  }
  function short(n) {
    const units = ['', ' k', ' M', ' G', ' T'];
    let unit = 0;
    for (; n >= 999.5 && unit < units.length - 1; unit++) n /= 1000;
    return (unit && n < 9.95 ? n.toFixed(1) : Math.round(n)) + units[unit];
  }
  const ratio = (part, whole) => (whole ? part / whole : 0);
  function percent(part, whole) {
    const p = 100 * ratio(part, whole);
    return p > 0 && p < 0.05 ? '< 0.1 %' : p.toFixed(1) + ' %';
  }
  const moment = (ms) => new Date(ms).toISOString().replace('T', ' ').slice(0, 16) + ' UTC';
  const wholeKey = (k) => k.key + (k.key_bytes > 256 ? `… (${count(k.key_bytes)} bytes)` : '');

  // columns: {title, value(row), kind: 'n' | 'key' | 'name' | 'meter', wide}
  function table(columns, rows, caption) {
    const kind = (c) => [c.kind || '', c.wide ? 'wide' : ''].join(' ').trim() || null;
    const cell = (c, row) => {
      const value = c.value(row);
      const inside = c.kind === 'meter' ? h('div', {'aria-hidden': 'true'}, h('i', {
        style: `width:${value > 0 ? Math.max(1, 100 * value).toFixed(2) : 0}%` + (c.color ? `;background:${c.color(row)}` : '')})) : value;
      return h('td', {class: kind(c)}, inside);
    };
    return h('div', {class: 'scroll', tabindex: 0, role: 'region', 'aria-label': caption},
      h('table', {},
        h('thead', {}, h('tr', {}, columns.map((c) =>
          h('th', {scope: 'col', class: [c.kind === 'n' ? 'n' : '', c.wide ? 'wide' : ''].join(' ').trim() || null},
            c.title)))),
        h('tbody', {}, rows.map((row) => h('tr', {}, columns.map((c) => cell(c, row)))))));
  }
  const behind = (title, inside) => h('details', {}, h('summary', {}, title), inside);

  function card(title, sub, size, ...inside) {
    const id = title.toLowerCase().replace(/[^a-z]+/g, '-');
    const head = h('div', {class: 'head'}, h('h2', {id}, title), sub ? h('p', {class: 'sub'}, sub) : null);
    return h('section', {class: 'card ' + size, 'aria-labelledby': id}, head, ...inside);
  }

  function choice(label, names, chosen) {
    const buttons = names.map((name, i) => h('button', {type: 'button', 'aria-pressed': String(i === 0), onclick: () => {
      buttons.forEach((b, j) => b.setAttribute('aria-pressed', String(i === j)));
      chosen(i);
    }}, name));
    return h('div', {class: 'choice', role: 'group', 'aria-label': label}, buttons);
  }

  function header() {
    const t = data.totals;
    const sources = [...new Set(data.files.map((f) => f.server || 'unknown server'))].join(', ');
    const name = data.files.length === 1 ? data.files[0].name : `${count(data.files.length)} files`;
    const made = data.files.map((f) => f.created_ms).filter((ms) => ms !== null);
    const tile = (title, value, more) =>
      h('div', {class: 'tile'}, h('dt', {}, title), h('dd', {}, value), h('dd', {}, more));
    document.title = `RDB report: ${name}`;
    return [
      h('header', {}, h('h1', {}, 'RDB report'),
        h('p', {class: 'sub'}, h('code', {}, name), ` · ${sources}`,
          made.length ? ` · made ${moment(Math.max(...made))}` : '')),
      h('dl', {class: 'tiles'},
        tile('Keys', count(t.keys), data.databases.length > 1 ? `in ${data.databases.length} dbs` : 'in one db'),
        tile('Estimated memory', bytes(t.memory + t.table_memory), `${bytes(t.table_memory)} for the key tables`),
        tile('Keys that expire', percent(t.expiring, t.keys), `${count(t.expiring)} keys`),
        tile('Mean key', bytes(ratio(t.memory, t.keys)), 'with its value'),
        data.duplicates ? tile('In repeated values', bytes(data.duplicates.wasted),
          `${count(data.duplicates.repeats)} repeats`) : null),
    ];
  }

  // The tree of prefixes as an icicle: each row is one segment deeper.
  function prefixes() {
    const ROW = 32;
    const root = data.prefixes;
    root.segment = 'all keys';
    const by = [(n) => n.memory, (n) => n.keys];
    const show = [(n) => bytes(n.memory), (n) => count(n.keys) + ' keys'];
    let metric = 0, focus = root, hovered = null;
    (function link(node, parent, hue, depth) {
      Object.assign(node, {parent, hue, depth});
      (node.children || []).forEach((c, i) => link(c, node, depth === 0 ? HUES[i % HUES.length] : hue, depth + 1));
    })(root, null, 214, 0);
    const rows = (n) => 1 + Math.max(0, ...(n.children || []).map(rows));
    const describe = (n) => `${n === root ? 'all keys' : n.prefix} — ${bytes(n.memory)}, ` +
      `${percent(n.memory, root.memory)} of the memory, ${count(n.keys)} keys, ${percent(n.expiring, n.keys)} expire`;
    const told = h('div', {class: 'told', 'aria-live': 'polite'});
    const crumbs = h('nav', {class: 'crumbs', 'aria-label': 'Prefix'});
    const chart = h('div', {id: 'icicle'});
    const tell = (n) => { told.textContent = describe(n || focus); };

    function go(node) {
      focus = node;
      draw();
      const first = chart.querySelector('.node');
      if (first && hovered !== null) first.focus({preventScroll: true});
    }
    function nodeOf(n, x, y, w) {
      const label = Math.floor((w - 14) / 7.25);
      const text = n.segment.length <= label ? n.segment : label >= 3 ? n.segment.slice(0, label - 1) + '…' : '';
      const value = show[metric](n);
      const room = w - 24 - n.segment.length * 7.25;
      const open = () => { hovered = n; go(n === focus ? n.parent || n : n); };
      return s('g', {class: 'node', tabindex: 0, role: 'button', 'aria-label': describe(n), onclick: open,
        onmouseenter: () => tell(n), onmouseleave: () => tell(null), onfocus: () => tell(n),
        onkeydown: (e) => {
          if (e.key === 'Enter' || e.key === ' ') { e.preventDefault(); open(); }
          if (e.key === 'Escape' && focus.parent) { hovered = n; go(focus.parent); }
        }},
      s('rect', {x, y, width: Math.max(w - 1, 0.6), height: ROW - 2, rx: w > 8 ? 3 : 0,
        style: `fill:hsl(${n.hue} ${n === root ? '18%' : 'var(--s)'} calc(var(--l) + ${Math.max(0, n.depth - 1)} * var(--dl)))`}),
      text ? s('text', {x: x + 7, y: y + 19.5}, text) : null,
      room > value.length * 7.25 ? s('text', {x: x + w - 8, y: y + 19.5, 'text-anchor': 'end', opacity: 0.72}, value) : null);
    }
    function draw() {
      const width = chart.clientWidth;
      const svg = s('svg', {height: rows(focus) * ROW, role: 'group',
        'aria-label': 'Prefixes by ' + ['memory', 'keys'][metric] + '; Enter opens one, Escape goes back'});
      (function place(n, x, row, w) {
        svg.append(nodeOf(n, x, row * ROW, w));
        let at = x;
        for (const c of n.children || []) {
          const part = w * ratio(by[metric](c), by[metric](n));
          if (part >= 1) place(c, at, row + 1, part);
          at += part;
        }
        if ((n.children || []).length && x + w - at >= 2)
          svg.append(s('rect', {class: 'rest', x: at, y: (row + 1) * ROW, width: x + w - at - 1, height: ROW - 2, rx: 3},
            s('title', {}, 'smaller ones')));
      })(focus, 0, 0, width);
      chart.replaceChildren(svg);
      const path = [];
      for (let n = focus; n; n = n.parent) path.unshift(n);
      crumbs.replaceChildren(...path.flatMap((n, i) => [
        h('button', {type: 'button', disabled: n === focus, onclick: () => { hovered = null; go(n); }},
          n === root ? 'all keys' : n.segment)].concat(i + 1 < path.length ? h('span', {'aria-hidden': 'true'}, '›') : [])));
      tell(null);
    }
    redraws.push(draw);

    const list = [];
    (function collect(n) {
      if (n !== root) list.push(n);
      (n.children || []).forEach(collect);
    })(root);
    const made = card('Prefixes', 'Each row is one segment of the names deeper; “*” stands for many. Choose one to open it.', '',
      crumbs, chart, told,
      behind(`Table of ${count(list.length)} prefixes`, table([
        {title: 'Prefix', kind: 'key', value: (n) => n.prefix},
        {title: 'Expire', kind: 'n', wide: true, value: (n) => percent(n.expiring, n.keys)},
        {title: 'Mean key', kind: 'n', wide: true, value: (n) => bytes(ratio(n.memory, n.keys))},
        {title: 'Keys', kind: 'n', value: (n) => count(n.keys)},
        {title: 'Memory', kind: 'n', value: (n) => bytes(n.memory)},
        {title: 'Share', kind: 'n', value: (n) => percent(n.memory, root.memory)},
      ], list, 'Prefixes')));
    made.querySelector('h2').after(choice('Size by', ['Memory', 'Keys'], (i) => { metric = i; draw(); }));
    return made;
  }

  const color = (type) => `var(--c${Math.min(6, TYPES.indexOf(type))})`;

  function types() {
    const total = data.totals.memory;
    const rows = [...data.types].sort((a, b) => b.memory - a.memory);
    const stack = TYPES.map((type) => [type, rows.filter((r) => r.type === type).reduce((sum, r) => sum + r.memory, 0)])
      .filter(([, memory]) => memory > 0);
    return card('Types', null, 'half',
      h('div', {class: 'stack', role: 'img', 'aria-label': 'Memory by type: ' +
        stack.map(([type, memory]) => `${type} ${percent(memory, total)}`).join(', ')},
      stack.map(([type, memory]) => h('i', {title: `${type}: ${bytes(memory)}`,
        style: `flex:${memory} 1 0;background:${color(type)}`}))),
      table([
        {title: 'Type', kind: 'name', value: (r) => [h('span', {class: 'dot', style: `background:${color(r.type)}`}), r.type]},
        {title: 'Encoding', value: (r) => (r.encoding === r.type ? '' : r.encoding)},
        {title: 'Keys', kind: 'n', value: (r) => count(r.keys)},
        {title: 'Elements', kind: 'n', wide: true, value: (r) => (r.type === 'string' ? '' : count(r.elements))},
        {title: 'Share', kind: 'n', wide: true, value: (r) => percent(r.memory, total)},
        {title: 'Memory', kind: 'n', value: (r) => bytes(r.memory)},
      ], rows, 'Types and encodings'));
  }

  function ttl() {
    const most = Math.max(1, ...data.ttl.map((b) => b.keys));
    return card('Time to live', 'Left when the file was made.', 'half', table([
      {title: 'Expires in', value: (b) => b.bucket},
      {title: '', kind: 'meter', value: (b) => b.keys / most,
        color: (b) => ({'no expiry': 'var(--c6)', expired: 'var(--warm)'})[b.bucket] || 'var(--accent)'},
      {title: 'Keys', kind: 'n', value: (b) => count(b.keys)},
      {title: 'Memory', kind: 'n', wide: true, value: (b) => bytes(b.memory)},
      {title: 'Share of keys', kind: 'n', value: (b) => percent(b.keys, data.totals.keys)},
    ], data.ttl, 'Time to live'));
  }

  function databases() {
    if (data.databases.length < 2) return null;
    const most = Math.max(1, ...data.databases.map((d) => d.memory));
    return card('Databases', null, '', table([
      {title: 'Db', value: (d) => (d.db < 0 ? 'others' : String(d.db))},
      {title: '', kind: 'meter', value: (d) => d.memory / most},
      {title: 'Expire', kind: 'n', wide: true, value: (d) => percent(d.expiring, d.keys)},
      {title: 'Keys', kind: 'n', value: (d) => count(d.keys)},
      {title: 'Share', kind: 'n', wide: true, value: (d) => percent(d.memory, data.totals.memory)},
      {title: 'Memory', kind: 'n', value: (d) => bytes(d.memory)},
    ], data.databases, 'Databases'));
  }

  function greatest() {
    const lists = [data.top_memory, data.top_elements];
    if (!lists[0].length) return null;
    const place = h('div', {id: 'greatest'});
    const show = (i) => {
      const by = i ? (k) => k.elements : (k) => k.memory;
      const most = Math.max(1, ...lists[i].map(by));
      place.replaceChildren(table([
        {title: 'Key', kind: 'key', value: wholeKey},
        {title: 'Type', kind: 'name', wide: true, value: (k) => [h('span', {class: 'dot', style: `background:${color(k.type)}`}), k.type]},
        {title: 'Db', kind: 'n', wide: true, value: (k) => String(k.db)},
        {title: 'Expires', kind: 'n', wide: true, value: (k) => (k.expire_ms === null ? '' : moment(k.expire_ms))},
        {title: '', kind: 'meter', wide: true, value: (k) => by(k) / most, color: (k) => color(k.type)},
        {title: 'Memory', kind: 'n', value: (k) => bytes(k.memory)},
        {title: 'Elements', kind: 'n', value: (k) => count(k.elements)},
      ], lists[i], 'Greatest keys'));
    };
    show(0);
    const made = card('Greatest keys', null, '', place);
    made.querySelector('h2').after(choice('Order', ['By memory', 'By elements'], show));
    return made;
  }

  // Columns with labels below. bars: {label, value, text, over}
  function columns(label, bars, options) {
    const place = h('div', {});
    redraws.push(() => {
      const width = place.clientWidth, height = options.height, top = 18, bottom = 22;
      const most = Math.max(1e-9, ...bars.map((b) => b.value)), step = Math.min(64, width / bars.length);
      const every = Math.max(1, Math.ceil(options.labelWidth / step));
      const svg = s('svg', {height: height + top + bottom, role: 'img', 'aria-label': label});
      bars.forEach((b, i) => {
        const tall = b.value > 0 ? Math.max(1.5, (height * b.value) / most) : 0;
        const x = i * step, gap = step > 10 ? Math.min(6, step * 0.18) : step > 4 ? 1 : 0.4;
        svg.append(s('g', {},
          s('rect', {class: 'bar' + (b.over ? ' over' : ''), x: x + gap / 2, y: top + height - tall, rx: step > 10 ? 2 : 0,
            width: Math.max(0.5, step - gap), height: tall}),
          s('rect', {x, y: top, width: step, height, fill: 'transparent'}, s('title', {}, b.text)),
          options.values && step > 38 && b.value > 0 ?
            s('text', {x: x + step / 2, y: top + height - tall - 5, 'text-anchor': 'middle'}, options.values(b)) : null,
          i % every === 0 && b.label ? s('text', {x: x + (options.center ? step / 2 : 0), y: top + height + 16,
            'text-anchor': options.center ? 'middle' : 'start'}, b.label) : null));
      });
      svg.append(s('line', {class: 'axis', x1: 0, x2: width, y1: top + height + 0.5, y2: top + height + 0.5}));
      if (options.mean) {
        const y = top + height - (height * options.mean) / most;
        svg.append(s('line', {class: 'mean', x1: 0, x2: width, y1: y, y2: y}));
      }
      place.replaceChildren(svg);
    });
    return place;
  }

  function histogram(name, title, sub, label) {
    const found = data.histograms[name];
    if (!found.length) return null;
    const bars = [];
    for (let from = found[0].from; from <= found[found.length - 1].from; from = from ? from * 2 : 1) {
      const b = found.find((f) => f.from === from) || {from, to: from ? from * 2 - 1 : 0, keys: 0, memory: 0};
      bars.push({...b, value: b.keys, label: label(b), text: `${label(b)}: ${count(b.keys)} keys, ${bytes(b.memory)}`});
    }
    return card(title, sub, 'third',
      columns(`${title}: ` + bars.map((b) => b.text).join('; '), bars,
        {height: 130, labelWidth: 58, center: true, values: (b) => percent(b.keys, data.totals.keys).replace(' ', '')}),
      behind('Table', table([
        {title: 'Up to', kind: 'n', value: (b) => label(b)},
        {title: 'Keys', kind: 'n', value: (b) => count(b.keys)},
        {title: 'Share', kind: 'n', value: (b) => percent(b.keys, data.totals.keys)},
        {title: 'Memory', kind: 'n', value: (b) => bytes(b.memory)},
      ], bars, title)));
  }

  function slots() {
    const {used, min, max, top, ranges} = data.slots;
    const mean = data.totals.memory / ranges.length;
    const bars = ranges.map((r) => ({...r, value: r.memory, label: String(r.from), over: r.memory > 1.5 * mean,
      text: `slots ${r.from} to ${r.to}: ${bytes(r.memory)}, ${count(r.keys)} keys`}));
    const fact = (name, value) => h('div', {}, h('dt', {}, name), h('dd', {}, value));
    return card('Cluster slots', 'Memory by range of slots; the dashed line is the mean, what is half as much again stands out.', '',
      h('dl', {class: 'facts'},
        fact('Slots with keys', `${count(used)} of 16,384`),
        fact('Keys a slot', `${count(min.keys)} to ${count(max.keys)}, mean ${(data.totals.keys / 16384).toFixed(1)}`),
        fact('Memory a slot', `${bytes(min.memory)} to ${bytes(max.memory)}, mean ${bytes(data.totals.memory / 16384)}`)),
      columns('Memory by range of slots', bars, {height: 120, labelWidth: 64, mean}),
      behind('Greatest slots', table([
        {title: 'Slot', kind: 'n', value: (t) => String(t.slot)},
        {title: 'Memory', kind: 'n', value: (t) => bytes(t.memory)},
        {title: 'Share', kind: 'n', value: (t) => percent(t.memory, data.totals.memory)},
        {title: 'Keys', kind: 'n', value: (t) => count(t.keys)},
      ], top, 'Greatest slots')),
      behind('Ranges', table([
        {title: 'Slots', kind: 'n', value: (r) => `${r.from} to ${r.to}`},
        {title: 'Memory', kind: 'n', value: (r) => bytes(r.memory)},
        {title: 'Keys', kind: 'n', value: (r) => count(r.keys)},
      ], ranges, 'Ranges of slots')));
  }

  function duplicates() {
    const d = data.duplicates;
    if (!d) return null;
    const sub = `${count(d.repeats)} of the values of ${count(d.compared)} keys from ${bytes(d.min_size)} on repeat another one: ` +
      `${bytes(d.wasted)} in all.`;
    const most = Math.max(1, ...d.values.map((v) => v.wasted));
    return card('Repeated values', sub, '', d.values.length ? table([
      {title: 'One of the keys', kind: 'key', value: wholeKey},
      {title: 'Type', wide: true, value: (v) => v.type},
      {title: 'Times', kind: 'n', value: (v) => count(v.count)},
      {title: 'Memory of one', kind: 'n', wide: true, value: (v) => bytes(v.memory)},
      {title: '', kind: 'meter', wide: true, value: (v) => v.wasted / most},
      {title: 'Repeats take', kind: 'n', value: (v) => bytes(v.wasted)},
    ], d.values, 'Repeated values') : null);
  }

  function files() {
    return card('Files', null, '', table([
      {title: 'File', kind: 'key', value: (f) => f.name},
      {title: 'Server', value: (f) => f.server || 'unknown'},
      {title: 'RDB', wide: true, value: (f) => (f.valkey ? 'Valkey ' : '') + f.rdb_version},
      {title: 'Made', kind: 'n', wide: true, value: (f) => (f.created_ms === null ? '' : moment(f.created_ms))},
      {title: 'Server used', kind: 'n', wide: true, value: (f) => (f.used_memory ? bytes(f.used_memory) : '')},
      {title: 'Size', kind: 'n', value: (f) => bytes(f.bytes)},
      {title: 'Keys', kind: 'n', value: (f) => count(f.keys)},
    ], data.files, 'Files'),
    h('ul', {class: 'notes', style: 'margin-top:12px'},
      h('li', {}, 'Memory is estimated from the layout of the server that wrote the file, as MEMORY USAGE would answer after a restart. ' +
        'Fragmentation, buffers and slack of tables that have shrunk are not in it.'),
      data.types.some((t) => t.type === 'module') ?
        h('li', {}, 'Values of modules count as the bytes they take in the file.') : null,
      data.totals.hashes_with_field_expiry ?
        h('li', {}, `${count(data.totals.hashes_with_field_expiry)} hashes have fields with an expiry of their own.`) : null,
      data.totals.commands ?
        h('li', {}, `${count(data.totals.commands)} commands stand between the keys; what they do is not in the numbers.`) : null,
      data.totals.functions ? h('li', {}, `${count(data.totals.functions)} function libraries.`) : null,
      h('li', {}, 'Prefixes and repeated values are gathered in bounded memory; in a very large file small ones are counted together.'),
      h('li', {}, `Made by gunyu ${data.gunyu} on ${moment(data.generated_ms)}.`)));
  }

  const some = data.totals.keys > 0;
  report.replaceChildren(...header().concat(h('div', {class: 'grid'}, ...[
    some && prefixes(), some && types(), some && ttl(), some && greatest(), some && databases(),
    some && histogram('memory', 'Memory of a key', 'Share of the keys, by size up to …', (b) => bytes(b.to + 1).replace('.0 ', ' ')),
    some && histogram('elements', 'Elements', 'Share of all keys, by elements up to …', (b) => short(b.to)),
    some && histogram('key_length', 'Length of names', 'Share of the keys, by bytes up to …', (b) => short(b.to)),
    some && slots(), some && duplicates(), files(),
  ].filter(Boolean))));
  const draw = () => redraws.forEach((f) => f());
  draw();
  let width = report.clientWidth;
  new ResizeObserver(() => {
    if (report.clientWidth === width) return;
    width = report.clientWidth;
    draw();
  }).observe(report);
})();

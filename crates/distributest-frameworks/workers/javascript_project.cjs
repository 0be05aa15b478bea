
// What every worker program in JavaScript says and looks for: texts of messages, ids, and what the project is: where its
// packages are and how its npm scripts start the framework.

const LONGEST_MESSAGE = 1000;
const LONGEST_DETAILS = 1024 * 1024;

// --------------------------------------------------------------------------------------------------------------------
// Texts

function result(outcome, message = '', details = '') {
  return { outcome, message: oneLine(message), details: cut(details) };
}

function oneLine(text) {
  const line = (clean(text).split(/\r?\n/).find((candidate) => candidate.trim() !== '') ?? '').trim();
  return line.length <= LONGEST_MESSAGE ? line : `${wholeCharacters(line.slice(0, LONGEST_MESSAGE))}…`;
}

function cut(text) {
  const whole = clean(text);
  if (whole.length <= LONGEST_DETAILS) return whole;
  const half = LONGEST_DETAILS / 2;
  const [head, tail] = [wholeCharacters(whole.slice(0, half)), wholeCharacters(whole.slice(-half))];
  return `${head}\n[… ${whole.length - 2 * half} characters left out …]\n${tail}`;
}

/** Text that can be written as UTF-8: lone surrogates become escapes. */
function clean(text) {
  return String(text ?? '').replace(/\p{Surrogate}/gu, (unit) => `\\u${unit.charCodeAt(0).toString(16)}`);
}

/** What cutting has left of a character of two units is no character. */
function wholeCharacters(text) {
  return text.replace(/\p{Surrogate}/gu, '');
}

/** What went wrong, in one line, of anything that can be thrown. */
function headline(error) {
  if (error === null || typeof error !== 'object') return oneLine(describeValue(error));
  const message = oneLine(error.message);
  const name = error.name && error.name !== 'Error' && !message.startsWith(error.name) ? `${error.name}: ` : '';
  return oneLine(name + (message || describeValue(error)));
}

/** A stack where there is one, and what caused it. */
function account(error) {
  if (error === null || typeof error !== 'object' || !error.stack) return describeValue(error);
  const stack = String(error.stack);
  return stack.includes(String(error.message)) ? stack : `${headline(error)}\n${stack}`;
}

function describeValue(value) {
  if (typeof value === 'string') return value;
  return require('node:util').inspect(value, { depth: 3 });
}

/** A path as the protocol has it: relative to the project. Modules are sometimes known by a URL. */
function relative(file) {
  return clean(path.relative(DIRECTORY, file.startsWith('file:') ? fileURLToPath(file) : file));
}

/** Gives each test an id of its own: names need not be unique. */
class Ids {
  constructor() {
    this.counts = new Map();
  }

  /** The name itself for the first test that has it, with a number for the others. */
  of(name) {
    const count = (this.counts.get(name) ?? 0) + 1;
    this.counts.set(name, count);
    return clean(count === 1 ? name : `${name} (${count})`);
  }
}

// --------------------------------------------------------------------------------------------------------------------
// Finding the framework

/** Why a worker can't work here, and what to do about it. */
class Unable extends Error {
  constructor(message, hint) {
    super(message);
    this.hint = hint;
  }
}

/** Thrown by `prepare` where the process needs options of Node.js that it was started without. */
class StartAgain extends Error {
  constructor(nodeArguments) {
    super(`Node.js has to be started with ${nodeArguments.join(' ')}`);
    this.nodeArguments = nodeArguments;
  }
}

/** Loads what the project itself would get: from node_modules here or further up, or from Yarn's Plug'n'Play. */
const projectRequire = createRequire(path.join(process.cwd(), 'package.json'));

/** The directory of a package the project has; `Unable` where it has none, or an older one than `oldest`. */
function packageDirectory(name, oldest) {
  let file;
  try {
    file = projectRequire.resolve(`${name}/package.json`);
  } catch {
    throw new Unable(
      `${name} is not installed: no node_modules/${name} in ${process.cwd()} or above it`,
      `install it where the tests run, for example in node_setup: npm ci (or npm install --save-dev ${name})`,
    );
  }
  const { version } = projectRequire(file);
  if (Number.parseInt(version, 10) < oldest) {
    throw new Unable(`${name} ${version} in ${path.dirname(file)} is too old: ${oldest} or newer is needed`,
      `npm install --save-dev ${name}@latest`);
  }
  return path.dirname(file);
}

/** The message on a file that the framework does not count as a test. */
function notAmong(framework, settings) {
  return `${framework} does not count this file among its tests (${settings}): leave it out with \`exclude\`, or name the `
    + 'files with `files`, in the configuration of distributest';
}

/** What makes Node.js find packages where the project uses Yarn's Plug'n'Play. */
function plugAndPlayArguments(directory = process.cwd()) {
  const [hook, loader] = ['.pnp.cjs', '.pnp.loader.mjs'].map((name) => path.join(directory, name));
  if (fs.existsSync(hook)) {
    const forModules = fs.existsSync(loader) ? ['--experimental-loader', pathToFileURL(loader).href] : [];
    return ['--require', hook, ...forModules];
  }
  const parent = path.dirname(directory);
  return parent === directory ? [] : plugAndPlayArguments(parent);
}

/**
 * How the project's npm scripts start a program: the script `test`, else the first whose name begins so; `marker` is a
 * word that must be there. What they give it is the least that it expects.
 */
function projectScript(program, marker) {
  const scripts = readScripts();
  const names = Object.keys(scripts).filter((name) => name.startsWith('test'));
  names.sort((one, other) => (other === 'test') - (one === 'test'));
  for (const words of names.flatMap((name) => String(scripts[name]).split(/[&|;]/)).map(shellWords)) {
    const start = words.findIndex((word) => path.basename(word).replace(/\.[cm]?js$/, '') === program);
    const given = words.slice(start + 1);
    if (start >= 0 && (marker === undefined || given.includes(marker))) return parseScript(words.slice(0, start), given);
  }
  return { environment: {}, nodeArguments: [], words: [] };
}

function readScripts() {
  try {
    return JSON.parse(fs.readFileSync('package.json', 'utf8')).scripts ?? {};
  } catch {
    return {}; // Without one that can be read, there are none.
  }
}

/** `NAME=value node --option program words` */
function parseScript(before, words) {
  const pairs = before.map((word) => /^(\w+)=(.*)$/s.exec(word)).filter((match) => match !== null);
  const { NODE_OPTIONS: options = '', ...environment } = Object.fromEntries(pairs.map(([, name, value]) => [name, value]));
  const node = before.findIndex((word) => path.basename(word) === 'node');
  const nodeArguments = [...shellWords(options), ...(node >= 0 ? before.slice(node + 1) : [])];
  return { environment, nodeArguments, words };
}

/** The words of a command, as a shell splits it. */
function shellWords(command) {
  const words = command.match(/(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+/gs) ?? [];
  const unquote = /"((?:[^"\\]|\\.)*)"|'([^']*)'|\\(.)/gs;
  return words.map((word) =>
    word.replace(unquote, (_, double, single, escaped) => double?.replace(/\\(.)/gs, '$1') ?? single ?? escaped));
}

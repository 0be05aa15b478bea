
// Runs files of Node.js's own test runner (node:test) for distributest. The command line after this program's name is of
// options for Node.js: `--import tsx`, `--test-name-pattern`. So are those of the `node --test` in the project's npm
// scripts.
//
// How it works. Each file is the main module of a process of its own, as with `node --test`. This file is the reporter
// that node:test loads there (`--test-reporter`), which makes its events messages.
//
// Rules:
// - A file without a single test is a test itself, as with `node --test`: named as the file, passed if its process
//   leaves with exit status 0.
// - Where single tests are asked for, the whole file runs, and only they are reported and judged: the names that Node.js
//   can be given are those of tests without what they are in.
// - node:test reports a test when those before it are reported, so results come in the order of the file.

const { runMain } = require('node:module');
const { Transform } = require('node:stream');

const OLDEST_NODE = 18;
const FOR_WHOLE_RUNS = /^--(test|watch)$|^--(test-reporter|test-reporter-destination|watch-path|watch-preserve-output)(=|$)/;

const nodeTest = {
  name: 'node-test',
  command: 'node',
  marker: '--test',
  canRepeat: true,

  nodeArguments(words) {
    const reporter = ['--test-reporter', __filename, '--test-reporter-destination', 'stdout'];
    return [...optionsForNode(words), ...reporter];
  },

  /** A module of the project's own that Node.js loads when it starts. */
  loadsAhead(words) {
    return optionsForNode(words).some((word) => /^(--[a-z-]+=)?\.{0,2}\//.test(word));
  },

  prepare() {
    const version = process.versions.node;
    if (Number.parseInt(version, 10) < OLDEST_NODE) {
      throw new Unable(`Node.js ${version} is too old: ${OLDEST_NODE} or newer is needed`, 'install a newer nodejs');
    }
    return version;
  },

  run(file, ids, report) {
    const record = new EventRecord(file, report, ids);
    module.exports.record = record;
    process.on('uncaughtExceptionMonitor', (error) => {
      record.uncaught ??= error;
    });
    process.on('exit', (status) => record.conclude(status));
    process.argv = [process.execPath, path.resolve(file)];
    // From here on, what the file throws is its own affair, not this function's.
    process.nextTick(runMain, process.argv[1]);
    // The process is over when the file is.
    return new Promise(() => {});
  },
};

/** Options without those that are about a whole run, and without the files to run. */
function optionsForNode(words) {
  const options = [];
  for (let index = 0; index < words.length; index += 1) {
    const [name] = words[index].split('=');
    const takesNext = !words[index].includes('=') && takesValue(name);
    const isOption = name.startsWith('-');
    if (isOption && !FOR_WHOLE_RUNS.test(words[index])) options.push(...words.slice(index, index + 1 + takesNext));
    if (isOption && takesNext) index += 1;
  }
  return options;
}

function takesValue(name) {
  return /^(-[rC]|--(import|require|loader|experimental-loader|conditions|env-file|env-file-if-exists|test-[a-z-]+))$/.test(name)
    && !/^--test-(only|force-exit|update-snapshots)$/.test(name);
}

/** What node:test has said of a file. */
class EventRecord {
  /** `wanted`: ids of tests, or of suites they are in; without any, all. */
  constructor(file, report, wanted) {
    Object.assign(this, { file, report, wanted });
    this.ids = new Ids();
    this.path = [];
    this.hasTests = false;
    this.hasFailed = false;
    this.hasOtherFailed = false;
    this.isComplete = false;
  }

  take({ type, data }) {
    if (type === 'test:dequeue') this.enter(data);
    else if (type === 'test:start') this.path.splice(data.nesting, Infinity, data.name);
    else if (type === 'test:pass' || type === 'test:fail') this.end(data, type === 'test:fail');
  }

  /** A test begins. Its ancestors' names are not known yet where they are reported later. */
  enter(data) {
    if (data.type === 'suite') return;
    this.report.enter({ id: clean(data.name), name: clean(data.name), ...this.place(data) });
  }

  place(data) {
    const file = data.file ? relative(data.file) : this.file;
    return data.line === undefined ? { file } : { file, line: data.line };
  }

  end(data, hasFailed) {
    this.hasTests = true;
    const { error, duration_ms: milliseconds, type } = data.details;
    const isOfChildren = error?.failureType === 'subtestsFailed';
    const names = [...this.path.slice(0, data.nesting), data.name];
    const isReported = type !== 'suite' || (hasFailed && !isOfChildren);
    const id = isReported ? this.ids.of(names.join(' ')) : undefined;
    if (!this.isWanted(names, id)) {
      this.hasOtherFailed ||= hasFailed;
      return;
    }
    if (hasFailed && data.todo === undefined) this.hasFailed = true;
    // A suite is no test, but what is wrong with its hooks is nowhere else.
    if (!isReported) return;
    this.report.test({
      id,
      name: clean(names.join(' › ')),
      ...this.place(data),
      seconds: milliseconds / 1000,
      ...judge(data, hasFailed, error),
    });
  }

  isWanted(names, id) {
    if (this.wanted === undefined) return true;
    const around = names.map((_, index) => clean(names.slice(0, index + 1).join(' ')));
    const asked = this.wanted.filter((each) => each === id || around.slice(0, -1).includes(each));
    for (const each of asked) this.report.missing.delete(each);
    return asked.length > 0;
  }

  /** The process is about to leave with this status. */
  conclude(status) {
    const loaded = process.moduleLoadList ?? [];
    const usesNodeTest = loaded.includes('NativeModule internal/test_runner/harness');
    // It was told to leave by a test: the supervisor says so.
    if (usesNodeTest && !this.isComplete && this.uncaught === undefined) return;
    if (!this.hasTests) this.judgeByStatus(status);
    const failed = this.hasFailed || this.uncaught !== undefined;
    // node:test has set it for a test that nobody asked for.
    if (this.hasOtherFailed && !failed && status === 1) process.exitCode = 0;
    const why = this.uncaught === undefined ? '' : headline(this.uncaught);
    this.report.finished(failed ? result('failed', why, why && account(this.uncaught)) : result('passed'));
  }

  judgeByStatus(status) {
    const passed = status === 0;
    const message = this.uncaught === undefined ? `the file left with exit status ${status}` : headline(this.uncaught);
    const said = passed ? { status: 'passed' } : { status: 'failed', message, details: account(this.uncaught ?? message) };
    this.report.test({ id: this.file, name: this.file, file: this.file, seconds: process.uptime(), ...said });
  }
}

/** Status, message and details of a test. */
function judge({ skip, todo }, hasFailed, error) {
  const reason = (value) => (typeof value === 'string' ? value : '');
  if (skip !== undefined && skip !== false) return { status: 'skipped', message: reason(skip) };
  if (todo !== undefined && todo !== false) {
    return { status: hasFailed ? 'expected_failure' : 'skipped', message: reason(todo) || 'todo' };
  }
  if (!hasFailed) return { status: 'passed' };
  // node:test wraps what was thrown.
  const cause = error.cause instanceof Object ? error.cause : error;
  const status = error.failureType === 'hookFailed' || error.failureType === 'cancelledByParent' ? 'error' : 'failed';
  return { status, message: headline(cause), details: account(cause) };
}

module.exports = new Transform({
  writableObjectMode: true,
  transform(event, encoding, done) {
    module.exports.record.take(event);
    done();
  },
  flush(done) {
    module.exports.record.isComplete = true;
    done();
  },
});

work(nodeTest);

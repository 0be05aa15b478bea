
// Runs Mocha files for distributest. Needs Mocha 8 or newer, the project's own. The command line after this program's
// name is Mocha's own: `--grep`, `--timeout`.
//
// How it works. `prepare` loads Mocha and its options (`.mocharc.*`, package.json) as its command line does, and those
// modules of `--require` that are packages; `run` loads the rest and does with one file what `mocha FILE` does, with a
// reporter that reports to distributest.
//
// Rules:
// - What is in `spec` of the options is what `mocha` alone would run; here the one wanted file takes its place.
// - Options that make no sense for one file of many are switched off: `parallel`, `watch`, `reporter`.
// - Each file has its global fixtures and root hooks, as if it were the only one.

const OLDEST_MOCHA = 8;

const mocha = {
  name: 'mocha',
  command: 'mocha',
  canRepeat: false,
  lingers: true,

  async prepare(words) {
    this.directory = packageDirectory('mocha', OLDEST_MOCHA);
    const loaded = projectRequire(this.directory);
    // A module since Mocha 12.
    this.Mocha = loaded.default ?? loaded;
    this.helpers = this.internal('cli/run-helpers');
    // As Mocha's own main does: all of a stack is shown.
    Error.stackTraceLimit = Infinity;
    const options = this.internal('cli/options').loadOptions(words);
    this.options = this.withoutNodeOptions(options);
    process.argv = [process.execPath, path.join(this.directory, 'bin', 'mocha.js'), ...words];
    await this.loadPackages();
    return projectRequire(path.join(this.directory, 'package.json')).version;
  },

  /** A module of Mocha's that its exports don't name. Mocha 12 has other endings. */
  internal(name) {
    const file = ['.js', '.cjs'].map((ending) => path.join(this.directory, 'lib', name + ending)).find(fs.existsSync);
    if (file === undefined) throw new Error(`there is no lib/${name} in ${this.directory}`);
    return projectRequire(file);
  },

  /** Mocha's options may hold some for Node.js, for which it starts itself again; so does this. */
  withoutNodeOptions(options) {
    const { isNodeFlag, unparseNodeFlags } = this.internal('cli/node-flags');
    const [forMocha, forNode] = [{}, {}];
    for (const [name, value] of Object.entries(options)) {
      if (isNodeFlag(name)) forNode[name.replace(/^v8-(?!options$)/, '')] = value;
      else forMocha[name] = value;
    }
    const given = forMocha['node-option']?.map((option) => `--${option}`) ?? unparseNodeFlags(forNode);
    if (given.some((option) => !process.execArgv.includes(option))) throw new StartAgain(given);
    return forMocha;
  },

  /** Loads what is required, up to the first that is the project's own. */
  async loadPackages() {
    const { requireOrImport } = this.internal('nodejs/esm-utils');
    for (const module of this.options.require ?? []) {
      const isOwn = fs.existsSync(module) || fs.existsSync(`${module}.js`) || /^[./]/.test(module);
      if (isOwn) return;
      await requireOrImport(module);
    }
  },

  async run(file, ids, report) {
    let outcome;
    try {
      // The exceptions of this file are not the last one's any more.
      const { last } = this;
      this.last = undefined;
      last?.dispose();
      const instance = await this.load(file, report);
      this.last = instance;
      if (ids !== undefined) keepOnly(instance.suite, new Set(ids), instance.options.names);
      outcome = await runLoaded(instance);
    } catch (error) {
      return { ...result('broken', headline(error), account(error)), exitsAtOnce: this.options.exit };
    }
    // As with Mocha's own: whatever exit status the tests have set does not count. Registered after theirs.
    process.off('exit', forgetExitStatus);
    process.on('exit', forgetExitStatus);
    const said = outcome.failures > 0 ? result('failed') : result('passed', outcome.hasTests ? '' : 'no tests');
    return { ...said, exitsAtOnce: this.options.exit };
  },

  async load(file, report) {
    const options = { ...this.options, spec: [file], parallel: false, watch: false };
    Object.assign(options, await this.helpers.handleRequires(options.require));
    this.helpers.validateLegacyPlugin(options, 'ui', this.Mocha.interfaces);
    options.names = new TestNames(file);
    options.reporter = reporterClass(this.Mocha, report, options.names);
    const instance = new this.Mocha(options);
    instance.files = [...(options.file ?? []), file].map((each) => path.resolve(each));
    await instance.loadFilesAsync();
    options.names.giveToAll(instance.suite);
    return instance;
  },
};

function forgetExitStatus() {
  process.exitCode = 0;
}

function runLoaded(instance) {
  return new Promise((resolve) => {
    const runner = instance.run((failures) => resolve({ failures, hasTests: runner.stats.tests > 0 || failures > 0 }));
  });
}

/** The ids of tests: their full titles, in the order they are in the file. */
class TestNames {
  constructor(file) {
    this.file = file;
    this.ids = new Ids();
    this.known = new WeakMap();
    this.passed = new WeakSet();
  }

  giveToAll(suite) {
    for (const test of suite.tests) this.of(test);
    for (const inner of suite.suites) this.giveToAll(inner);
  }

  /** What is said of a test besides its result. Every try of a test has the same. */
  of(test) {
    const original = test.retriedTest?.() || test;
    if (!this.known.has(original)) this.known.set(original, this.ids.of(original.fullTitle()));
    const file = test.file ? relative(test.file) : this.file;
    return { id: this.known.get(original), name: clean(test.titlePath().join(' › ')), file };
  }

  /** A test can fail after it has passed: by calling `done` again, or by an exception that comes late. */
  ofFailure(test) {
    const description = this.of(test);
    return this.passed.has(test) ? { ...description, id: this.ids.of(test.fullTitle()) } : description;
  }
}

/** Leaves only those tests in a suite that have one of these ids. */
function keepOnly(suite, ids, names) {
  const isWanted = (test) => ids.has(names.of(test).id);
  suite.tests = suite.tests.filter(isWanted);
  suite._onlyTests = suite._onlyTests.filter(isWanted);
  for (const inner of suite.suites) keepOnly(inner, ids, names);
}

function reporterClass(Mocha, report, names) {
  const { Base } = Mocha.reporters;

  return class Reporter extends Base {
    constructor(runner, options) {
      super(runner, options);
      const seconds = (test) => (test.duration ?? 0) / 1000;
      runner.on('test', (test) => report.enter(names.of(test)));
      runner.on('pass', (test) => {
        report.test({ ...names.of(test), status: 'passed', seconds: seconds(test) });
        names.passed.add(test);
      });
      runner.on('pending', (test) => report.test({ ...names.of(test), status: 'skipped' }));
      runner.on('fail', (test, error) => {
        const status = test.type === 'hook' ? 'error' : 'failed';
        const details = Reporter.describe(test);
        const description = names.ofFailure(test);
        report.test({ ...description, status, seconds: seconds(test), message: headline(error), details });
      });
    }

    /** A failure as Mocha prints it, the difference between expected and actual included. */
    static describe(test) {
      const { format } = require('node:util');
      const lines = [];
      const { consoleLog } = Base;
      Base.consoleLog = (...values) => lines.push(format(...values));
      try {
        Base.list([test]);
      } finally {
        Base.consoleLog = consoleLog;
      }
      return `${lines.join('\n').trim()}\n`;
    }
  };
}

work(mocha);

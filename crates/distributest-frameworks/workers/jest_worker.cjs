
// Runs Jest files for distributest. Needs Jest 29 or newer, the project's own. The command line after this program's name
// is Jest's own: `--config`, `--testNamePattern`.
//
// How it works. `prepare` does what Jest does before it runs anything: read the configuration of all projects, build
// the haste map. `run` gives one file to Jest's scheduler, which runs it in this process, in an environment and with
// modules of its own, as any of Jest's workers would. Transformed files stay in memory for the next one.
//
// Rules:
// - Snapshots are read, not written (`--ci`), unless the command line says otherwise: this is a copy of the project.
// - `globalSetup` runs before the first file that needs it, `globalTeardown` when the worker ends.
// - Options that make no sense for one file of many are switched off: see `quieten`.
// - Coverage is written as JSON into a directory for each test file, below `distributest` in the coverage directory;
//   `nyc merge` and `nyc report` make one report of them.
// - Jest may run a test several times (`jest.retryTimes`), so its result is final when the file is over.

const OLDEST_JEST = 29;

const jest = {
  name: 'jest',
  command: 'jest',
  canRepeat: true,
  lingers: true,

  async prepare(words) {
    const directory = packageDirectory('jest', OLDEST_JEST);
    // As in Jest's own main.
    process.env.NODE_ENV ??= 'test';
    process.argv = [process.execPath, path.join(directory, 'bin', 'jest.js'), ...words];
    this.loadParts(directory);
    const argv = await this.parse(['--ci', ...words]);
    const { configs, globalConfig } = await this.config.readConfigs(argv, argv.projects ?? [process.cwd()]);
    this.idleMemoryLimit = globalConfig.workerIdleMemoryLimit;
    this.globalConfig = quieten(globalConfig);
    this.contexts = [];
    for (const config of configs) this.contexts.push(await this.context({ ...config, testLocationInResults: true }));
    this.setUp = new Map();
    return this.core.getVersion();
  },

  /** Jest's parts are found as Jest itself finds them. */
  loadParts(directory) {
    const fromJest = createRequire(path.join(directory, 'package.json'));
    const fromCore = createRequire(fromJest.resolve('@jest/core'));
    this.core = fromJest('@jest/core');
    this.commandLine = fromJest('jest-cli');
    this.yargsFile = createRequire(fromJest.resolve('jest-cli'));
    this.config = fromCore('jest-config');
    this.Runtime = fromCore('jest-runtime').default;
    this.reporters = fromCore('@jest/reporters');
    this.transform = fromCore('@jest/transform');
    this.messages = fromCore('jest-message-util');
    this.TestWatcher = fromCore('jest-watcher').TestWatcher;
  },

  /** Jest 29 keeps its own parser to itself. */
  async parse(words) {
    const buildArgv = this.commandLine.buildArgv
      ?? this.yargsFile(path.join(path.dirname(this.yargsFile.resolve('jest-cli')), 'run.js')).buildArgv;
    try {
      return { ...(await buildArgv(words)), watch: false, watchAll: false, watchman: false };
    } catch (error) {
      // A headline with a bullet, then which option, then where all are described.
      const said = String(error.message).split('\n').map((line) => line.trim()).filter((line) => line !== '');
      const what = said.find((line) => !/^\S? ?Unrecognized CLI Parameter/.test(line)) ?? '';
      throw new Unable(`jest does not take these arguments: ${what}`, 'see `npx jest --help` for what it takes');
    }
  },

  context(config) {
    fs.mkdirSync(config.cacheDirectory, { recursive: true });
    return this.Runtime.createContext(config, { console, maxWorkers: 1, watch: false, watchman: false });
  },

  async run(file, ids, report) {
    const absolute = path.resolve(file);
    const contexts = this.contexts.filter((context) => new this.core.SearchSource(context).isTestFilePath(absolute));
    if (contexts.length === 0) return result('broken', notAmong('Jest', 'testMatch, testRegex, testPathIgnorePatterns'));
    for (const { config } of contexts) await this.setUpFor(config);
    const globalConfig = { ...this.globalConfig, ...selection(ids), ...coverage(this.globalConfig, file) };
    const scheduler = await this.core.createTestScheduler(globalConfig, { firstRun: true, previousSuccess: true });
    const reporter = new JestReporter(this, report, { file, ids, hasProjects: contexts.length > 1 });
    reporter.onRunStart = () => this.replaceCoverage(scheduler, globalConfig);
    scheduler.addReporter(reporter);
    const tests = contexts.map((context) => ({ context, path: absolute }));
    await scheduler.scheduleTests(tests, new this.TestWatcher({ isWatchMode: false }));
    return { ...reporter.conclude(), isLast: this.isTooBig(), exitsAtOnce: globalConfig.forceExit };
  },

  /** Files that no test has loaded are left out: instrumenting all of them takes long, and each file would do it again. */
  replaceCoverage(scheduler, globalConfig) {
    if (!globalConfig.collectCoverage) return;
    const { CoverageReporter } = this.reporters;
    scheduler.removeReporter(CoverageReporter);
    scheduler.addReporter(new CoverageReporter({ ...globalConfig, collectCoverageFrom: [] }, {}));
  },

  /** What `workerIdleMemoryLimit` is for: memory that files leave behind. */
  isTooBig() {
    return Boolean(this.idleMemoryLimit) && process.memoryUsage().rss > this.idleMemoryLimit;
  },

  async setUpFor(config) {
    for (const module of [this.globalConfig.globalSetup, config.globalSetup]) {
      if (module && !this.setUp.has(module)) {
        this.setUp.set(module, config);
        await this.callModule(module, config);
      }
    }
  },

  async callModule(module, config) {
    const transformer = await this.transform.createScriptTransformer(config);
    await transformer.requireAndTranspileModule(module, async (call) => {
      if (typeof call !== 'function') throw new TypeError(`${module} exports no function`);
      await call(this.globalConfig, config);
    });
  },

  async close() {
    const configs = new Set(this.setUp.values());
    const modules = new Map();
    for (const config of configs) {
      for (const module of [this.globalConfig.globalTeardown, config.globalTeardown]) {
        if (module && !modules.has(module)) modules.set(module, config);
      }
    }
    for (const [module, config] of modules) await this.callModule(module, config);
  },
};

/** Switches off options that are about a run of all files. */
function quieten(globalConfig) {
  return {
    ...globalConfig,
    bail: 0,
    coverageReporters: ['json'],
    coverageThreshold: undefined,
    maxWorkers: 1,
    notify: false,
    onlyChanged: false,
    reporters: [],
    // Console output is written as it comes; else it would be lost with its process.
    verbose: true,
    watch: false,
    watchAll: false,
    workerIdleMemoryLimit: undefined,
  };
}

function selection(ids) {
  if (ids === undefined) return {};
  const names = ids.map((id) => id.replace(/ \(\d+\)$/, '').replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  const exact = ids.map((id) => id.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  return { testNamePattern: `^(${[...names, ...exact].join('|')})$` };
}

function coverage(globalConfig, file) {
  if (!globalConfig.collectCoverage) return {};
  return { coverageDirectory: path.join(globalConfig.coverageDirectory, 'distributest', file.replaceAll('/', '__')) };
}

class JestReporter {
  constructor(parts, report, { file, ids, hasProjects }) {
    Object.assign(this, { parts, report, file, hasProjects });
    this.wanted = ids && new Set(ids);
    this.ids = new Ids();
    this.results = [];
  }

  getLastError() {}

  onTestCaseStart(test, start) {
    this.report.enter(this.describe(test, start, this.fullName(test, start)));
  }

  onTestCaseResult(test, assertion) {
    if (this.isSelected(assertion)) this.report.provisional(this.judge(test, assertion, this.fullName(test, assertion)));
  }

  onTestFileResult(test, fileResult) {
    this.results.push(fileResult);
    for (const assertion of fileResult.testResults) {
      const id = this.ids.of(this.fullName(test, assertion));
      if (this.isSelected(assertion) && (this.wanted?.has(id) ?? true)) this.report.test(this.judge(test, assertion, id));
    }
  }

  /** Of tests that were not asked for, Jest says that they are pending. */
  isSelected(assertion) {
    return this.wanted === undefined || assertion.status !== 'pending' || this.wanted.has(clean(assertion.fullName));
  }

  /** A file that belongs to several projects has each test in each of them. */
  fullName(test, { ancestorTitles, title }) {
    const project = this.hasProjects ? [test.context.config.displayName?.name ?? test.context.config.id] : [];
    return clean([...project, ...ancestorTitles, title].join(' '));
  }

  describe(test, { ancestorTitles, title, location }, id) {
    const place = location ? { line: location.line } : {};
    return { id, name: clean([...ancestorTitles, title].join(' › ')), file: relative(test.path), ...place };
  }

  judge(test, assertion, id) {
    const description = { ...this.describe(test, assertion, id), seconds: (assertion.duration ?? 0) / 1000 };
    if (assertion.status === 'passed') return { ...description, status: 'passed' };
    if (assertion.status === 'todo') return { ...description, status: 'skipped', message: 'todo' };
    if (assertion.status !== 'failed') return { ...description, status: 'skipped' };
    const { config } = test.context;
    const details = this.parts.messages.formatResultsErrors([assertion], config, { noStackTrace: false }, test.path);
    const message = oneLine(assertion.failureMessages[0]).replace(/^Error: /, '');
    return { ...description, status: 'failed', message, details: details ?? assertion.failureMessages.join('\n\n') };
  }

  conclude() {
    const broken = this.results.find((fileResult) => fileResult.testExecError && fileResult.testResults.length === 0);
    if (broken) {
      const { testExecError: error, failureMessage } = broken;
      return result('broken', oneLine(error.message || error.stack || failureMessage), failureMessage);
    }
    const outside = this.results.find((fileResult) => fileResult.testExecError);
    if (outside) {
      const text = outside.failureMessage ?? '';
      return result('failed', oneLine(outside.testExecError.message || outside.testExecError.stack), text);
    }
    if (this.results.some((fileResult) => fileResult.numFailingTests > 0)) return result('failed');
    return this.judgeSnapshots();
  }

  /** As Jest judges a whole run. */
  judgeSnapshots() {
    const obsolete = this.results.flatMap((fileResult) => fileResult.snapshot.uncheckedKeys ?? []);
    const isFaulty = this.wanted === undefined && this.results.some(({ snapshot }) => snapshot.unchecked > 0);
    if (isFaulty) return result('failed', `no test failed, but a snapshot is obsolete: ${obsolete[0]}`, obsolete.join('\n'));
    return result('passed', '');
  }
}

work(jest);

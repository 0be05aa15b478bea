
// Runs Vitest files for distributest. Needs Vitest 2 or newer, the project's own. The command line after this program's
// name is Vitest's own: `--config`, `--testNamePattern`.
//
// How it works. `prepare` starts Vitest as its command line does, up to its server, which keeps what it has transformed.
// `run` gives one file to Vitest's pool, which runs it where the project's configuration says: in a process of its own,
// unless `isolate` or `pool` say otherwise. So a file's process is as fresh as Vitest makes it.
//
// Rules:
// - `globalSetup` runs before the first file, and what it returns when the worker ends.
// - Type tests are left out; options that make no sense for one file of many are switched off: see `optionsFor`.
// - Coverage is written as JSON into a directory for each test file, below `distributest` in the coverage directory.
// - Vitest may run a test several times (`retry`, `repeats`), so its result is final when the file is over.

const OLDEST_VITEST = 2;

const vitest = {
  name: 'vitest',
  command: 'vitest',
  canRepeat: true,

  async prepare(words) {
    const directory = packageDirectory('vitest', OLDEST_VITEST);
    const { version } = projectRequire(path.join(directory, 'package.json'));
    // As in Vitest's own main.
    process.env.VITEST_MODE = 'RUN';
    process.env.TEST ??= 'true';
    process.env.NODE_ENV ??= 'test';
    process.argv = [process.execPath, path.join(directory, 'vitest.mjs'), ...words];
    const { createVitest, parseCLI } = await import(pathToFileURL(projectRequire.resolve('vitest/node')).href);
    this.reporter = new VitestReporter();
    const isCommand = /^(run|watch|dev|related|bench)$/.test(words[0] ?? '');
    const { options } = parseCLI(['vitest', 'run', ...words.slice(isCommand ? 1 : 0)]);
    if (words.some((word) => word.startsWith('-'))) refuseUnknown(options, process.argv[1]);
    this.instance = await createVitest('test', optionsFor(options, this.reporter));
    // Finds every file once, which is how Vitest knows which project one belongs to.
    await (this.instance.standalone?.() ?? this.instance.init());
    this.coverageDirectory = this.instance.coverageProvider?.options.reportsDirectory;
    return version;
  },

  async run(file, ids, report) {
    const { instance } = this;
    const absolute = path.resolve(file);
    const specifications = instance.getModuleSpecifications?.(absolute) ?? instance.getFileWorkspaceSpecs(absolute);
    if (specifications.length === 0) return result('broken', notAmong('Vitest', 'include, exclude'));
    this.reporter.begin(report, { file, ids, state: instance.state, hasProjects: specifications.length > 1 });
    // Without ids, the pattern of the command line or the configuration counts, which even `undefined` would replace.
    if (ids) instance.configOverride.testNamePattern = new RegExp(`^(${ids.map(escaped).join('|')})$`);
    else delete instance.configOverride.testNamePattern;
    if (this.coverageDirectory !== undefined) await this.directCoverage(file);
    if (instance.runTestSpecifications) await instance.runTestSpecifications(specifications, false);
    else await instance.runFiles(specifications, false);
    return this.reporter.conclude(instance.state.getFiles([absolute]), instance.state.getUnhandledErrors());
  },

  /** Has the next file's coverage written where no other's is, nor what is written on the way there. */
  async directCoverage(file) {
    const { coverageProvider } = this.instance;
    const directory = path.join(this.coverageDirectory, 'distributest', file.replaceAll('/', '__'));
    coverageProvider.options.reportsDirectory = directory;
    coverageProvider.coverageFilesDirectory = path.join(directory, '.tmp');
    await coverageProvider.clean(false);
  },

  async close() {
    await this.instance.close();
    // Vitest sets it when a test fails, of which the agent knows.
    process.exitCode = 0;
  },
};

/** Vitest's parser takes any option; which there are stands in its help. */
function refuseUnknown(options, program) {
  const help = childProcess.spawnSync(process.execPath, [program, '--help'], { encoding: 'utf8' }).stdout ?? '';
  const inHelp = [...help.matchAll(/^ +(?:-(\w), )?--(?:no-)?([\w-]+)/gm)].flatMap(([, letter, name]) => [letter, name]);
  const camelCase = (name) => name?.replace(/-(\w)/g, (_, letter) => letter.toUpperCase());
  const known = new Set(['--', 'run', ...inHelp.map(camelCase)]);
  const unknown = Object.keys(options).find((name) => !known.has(name));
  if (unknown === undefined || !known.has('testNamePattern')) return;
  const hint = `see \`npx vitest --help\` for what it takes`;
  throw new Unable(`vitest has no option ${unknown.length > 1 ? '--' : '-'}${unknown}`, hint);
}

function escaped(id) {
  return id.replace(/[.*+?^${}()|[\]\\]/g, '\\$&').replace(/ \\\((\d+)\\\)$/, '( \\($1\\))?');
}

/** The command line's options, without those that are about a run of all files. */
function optionsFor(given, reporter) {
  return {
    ...given,
    api: false,
    bail: 0,
    cache: false,
    changed: undefined,
    coverage: { ...given.coverage, clean: false, cleanOnRerun: false, reporter: ['json'], thresholds: {} },
    includeTaskLocation: true,
    open: false,
    reporters: [reporter],
    run: true,
    shard: undefined,
    typecheck: { enabled: false },
    ui: false,
    watch: false,
  };
}

class VitestReporter {
  begin(report, { file, ids, state, hasProjects }) {
    Object.assign(this, { report, file, state, hasProjects });
    this.wanted = ids && new Set(ids);
  }

  /** What tests print, as they print it. */
  onUserConsoleLog(log) {
    writeAll(log.type === 'stderr' ? 2 : 1, Buffer.from(log.content));
  }

  /** What has changed of tests since the last time. */
  onTaskUpdate(packs) {
    for (const [id, taskResult] of packs) {
      const task = this.state.idMap.get(id);
      if (task === undefined || task.type === 'suite' || task.tasks) continue;
      const { state } = taskResult ?? {};
      if (state === 'run') this.report.enter(describeTask(task, this.nameOf(task)), true);
      else if (state === 'pass' || state === 'fail') this.report.provisional(judgeTask(task, this.nameOf(task)));
    }
  }

  nameOf(task) {
    const project = this.hasProjects ? [task.file.projectName] : [];
    return clean([...project, ...titles(task)].join(' '));
  }

  conclude(files, unhandled) {
    const ids = new Ids();
    const tests = files.flatMap((file) => testsOf(file));
    // Of a process that dies, news of up to 100 ms are lost: often that its tests have begun, and how the first ones ended.
    const hasDied = unhandled.length > 0 && files.some((file) => file.result === undefined || isRunning(file));
    for (const task of tests) {
      const id = ids.of(this.nameOf(task));
      const isAsked = this.wanted?.has(id) ?? true;
      const hasBegun = task.result !== undefined || task.mode !== 'run';
      if (isAsked && (hasBegun || !hasDied)) this.report.test(judgeTask(task, id));
    }
    if (hasDied) return result('crashed', headline(unhandled[0]), account(unhandled[0]));
    const [error] = files.flatMap((file) => file.result?.errors ?? []);
    if (error && tests.length === 0) return result('broken', headline(error), account(error));
    if (unhandled.length > 0) return result('failed', headline(unhandled[0]), unhandled.map(account).join('\n\n'));
    const [fault] = files.flatMap(faultsOf);
    if (fault) return result('failed', headline(fault), account(fault));
    if (files.some((file) => file.result?.state === 'fail')) return result('failed');
    return result('passed', tests.length > 0 ? '' : 'no tests');
  }
}

/** The names of a test and of what it is in, the file left out. */
function titles(task) {
  const parents = task.suite && task.suite !== task.file ? titles(task.suite) : [];
  return [...parents, task.name];
}

function testsOf(task) {
  return task.tasks ? task.tasks.flatMap(testsOf) : [task];
}

/** Of a test or file that has ended, it would be said how. */
function isRunning(task) {
  return task.result?.state === 'run' || task.result?.state === 'queued';
}

/** Errors of a file's hooks, which are no test's. */
function faultsOf(task) {
  return task.tasks ? [...(task.result?.errors ?? []), ...task.tasks.flatMap(faultsOf)] : [];
}

function describeTask(task, id) {
  const place = task.location ? { line: task.location.line } : {};
  return { id, name: clean(titles(task).join(' > ')), file: relative(task.file.filepath), ...place };
}

function judgeTask(task, id) {
  const description = { ...describeTask(task, id), seconds: (task.result?.duration ?? 0) / 1000 };
  const state = task.result?.state;
  if (state === 'pass') return { ...description, status: 'passed' };
  if (state === 'fail') {
    const errors = task.result.errors ?? [];
    const details = errors.map((error) => [account(error), error.diff ?? ''].join('\n')).join('\n\n');
    return { ...description, status: 'failed', message: headline(errors[0] ?? 'the test failed'), details };
  }
  if (isRunning(task)) {
    return { ...description, status: 'error', message: 'the process running this test died' };
  }
  const note = task.mode === 'todo' ? 'todo' : task.result?.note ?? '';
  return { ...description, status: 'skipped', message: note };
}

work(vitest);

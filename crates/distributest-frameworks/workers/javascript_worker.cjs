'use strict';

// What every worker program in JavaScript needs: the conversation with the agent, and processes to run tests in.
//
// A worker program is this file, javascript_project.cjs and the one of its framework, as one text (see proto/worker.md). It
// needs Node.js 18 or newer, and nothing else.
//
// How it works. The program is started twice. What the agent starts is the `Supervisor`: it talks to the agent, loads
// nothing of the project, and starts the same program again for `Runner`s, the processes that load the framework and
// run test files. So a test can do to its process whatever it likes: the supervisor lives on to say which test it was.
//
// Node.js cannot fork. With isolation "fork" a runner is started ahead of its turn instead: while one runs a file, the
// next one already loads the framework, and waits. It loads nothing of the project's own until its turn comes, for
// that may open a port or clear a database that the file before still uses. With "shared" one runner runs all files,
// with "process" one runner runs one.
//
// A framework's file ends with `work({...})`, what the framework is:
//   name                 as distributest names it
//   command, marker      its program in npm scripts, and a word that must be there
//   nodeArguments(words) options for Node.js itself; optional
//   loadsAhead(words)    whether those options load something of the project's own: no process is started ahead then
//   prepare(words)       loads the framework, ahead; returns its version; throws `Unable` or `StartAgain`
//   run(file, ids, report)  runs the file, or only the tests with these ids; reports each test; returns `result(…)`, with
//                        `exitsAtOnce` if the process need not wait for what the file left open, and `isLast` if it
//                        should run no other file
//   close()              undoes what `prepare` and `run` did, once, before the process ends; optional
//   canRepeat            whether `run` can be given the same file twice
//   lingers              whether what tests leave undone goes on in the process that `run` is called in; optional

const childProcess = require('node:child_process');
const crypto = require('node:crypto');
const fs = require('node:fs');
const { createRequire } = require('node:module');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const { fileURLToPath, pathToFileURL } = require('node:url');

const PROTOCOL = 1;
const LONGEST_LINE = 32 * 1024 * 1024;
const LINGER_MILLISECONDS = 1000;

// What is needed after a test has put something else there.
const { parse, stringify } = JSON;
const { writeSync } = fs;
const { from: bytesOf } = Buffer;
const { setTimeout: later } = globalThis;
const { chdir: changeDirectory } = process;

const DIRECTORY = process.cwd();
const LEAVE_MILLISECONDS = 5000;

// --------------------------------------------------------------------------------------------------------------------
// Talking to the agent

/** The agent's end of the socket. Node.js marks it close-on-exec by itself, as every descriptor it is started with. */
class Agent {
  constructor(descriptor) {
    this.socket = new net.Socket({ fd: descriptor, readable: true, writable: true });
    this.socket.on('error', () => {});
  }

  /** Returns whether there is room for more; if not, `onRoom` tells when. */
  send(message) {
    return this.socket.write(`${stringify(message)}\n`);
  }

  onRoom(act) {
    this.socket.once('drain', act);
  }

  onMessage(act) {
    readLines(this.socket, (line) => {
      if (line.trim() !== '') act(parse(line));
    });
  }

  onGone(act) {
    this.socket.on('close', act);
  }

  /** Ends the program, when what was said is written. */
  partWith(status) {
    this.socket.removeAllListeners('close');
    this.socket.end(() => process.exit(status));
  }
}

/** Calls back for each line. One that is longer than any message can be is garbage, and dropped. */
function readLines(stream, act) {
  let rest = '';
  stream.setEncoding('utf8');
  stream.on('data', (chunk) => {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop();
    if (rest.length > LONGEST_LINE) rest = '';
    for (const line of lines) act(line);
  });
}

// --------------------------------------------------------------------------------------------------------------------
// The supervisor

/** How Node.js leaves that does not know an option, and after an error in a handler for uncaught ones. */
const BAD_NODE_OPTION = 9;
const UNCAUGHT = 7;

/** A runner as its supervisor sees it: a process that leads a session of its own, and a channel to and from it. */
class RunnerProcess {
  constructor(nodeArguments, words, environment) {
    // Lines on the channel begin with it, so that what a test writes there by accident is told from what is said.
    const key = crypto.randomBytes(8).toString('hex');
    this.process = childProcess.spawn(process.execPath, [...nodeArguments, __filename, ...words], {
      detached: true,
      env: { ...environment, ...process.env, DISTRIBUTEST_CHANNEL: key },
      stdio: ['ignore', 'inherit', 'inherit', 'pipe', 'pipe'],
    });
    this.act = () => {};
    this.incoming = this.process.stdio[3];
    this.outgoing = this.process.stdio[4];
    for (const stream of [this.incoming, this.outgoing]) stream.on('error', () => {});
    readLines(this.incoming, (line) => {
      if (line.startsWith(key)) this.act(parse(line.slice(key.length)));
    });
    this.ended = this.end();
    this.isPrepared = this.nextMessage();
  }

  /** The exit status or signal, when everything it said has been read. */
  async end() {
    const exit = new Promise((resolve) => {
      this.process.once('error', (error) => resolve({ description: `could not be started: ${error.message}` }));
      this.process.once('exit', (status, signal) => resolve({ status, signal }));
    });
    // One that has closed its end of the channel has nothing more to say, and runs on to no purpose.
    await new Promise((resolve) => {
      this.incoming.once('close', resolve);
    });
    this.process.kill('SIGKILL');
    return describeEnd(await exit);
  }

  send(message) {
    this.outgoing.write(`${stringify(message)}\n`);
  }

  /** The first message it sends; what became of it, if it sends none. */
  nextMessage() {
    const message = new Promise((resolve) => {
      this.act = resolve;
    });
    return Promise.race([message, this.ended.then((end) => ({ type: 'ended', end }))]);
  }

  signal(name) {
    for (const pid of [-this.process.pid, this.process.pid]) {
      try {
        process.kill(pid, name);
      } catch {
        // It is gone, or had no time yet to become the leader of its group.
      }
    }
  }
}

function describeEnd({ status, signal, description }) {
  if (description !== undefined) return { status: 1, how: description };
  if (signal === null) return { status, how: `left with exit status ${status}` };
  return { status: 128 + os.constants.signals[signal], how: `died of signal ${os.constants.signals[signal]} (${signal})` };
}

/** What is known of a file while it runs, in case its process dies. */
class FileRecord {
  constructor() {
    this.result = null;
    this.running = new Map();
    this.provisional = new Map();
  }

  /** Takes a message of the runner; returns the one that goes to the agent, if any does. */
  take(message) {
    switch (message.type) {
      case 'enter':
        if (!message.isBesideOthers) this.running.clear();
        this.running.set(message.test.id, message.test);
        return null;
      case 'provisional':
        this.running.delete(message.test.id);
        this.provisional.set(message.test.id, message.test);
        return null;
      case 'test':
        this.running.delete(message.test.id);
        this.provisional.delete(message.test.id);
        return { type: 'test', ...message.test };
      case 'finished':
        this.result = message.result;
        return null;
      case 'end_failed':
        return message;
      default:
        return null;
    }
  }
}

class Supervisor {
  constructor(agent, framework, isolation, words) {
    Object.assign(this, { agent, framework, isolation });
    this.given = words;
    this.runners = new Set();
    this.script = projectScript(framework.command, framework.marker);
    this.words = [...this.script.words, ...words];
    const own = framework.nodeArguments?.(this.words) ?? [];
    this.nodeArguments = [...plugAndPlayArguments(), ...this.script.nodeArguments, ...own];
    this.filesOfRunner = new Set();
    this.work = Promise.resolve();
  }

  async serve() {
    this.agent.onMessage((message) => this.obey(message));
    this.agent.onGone(() => this.leave('SIGKILL'));
    process.on('SIGTERM', () => this.leave('SIGTERM'));
    const path = firstPath(this.given);
    if (path !== undefined) {
      const message = `${this.framework.name} does not run ${path} because it stands behind --`;
      this.agent.send({ type: 'unable', message, hint: `name files and tests before --: distributest ${path}` });
      this.agent.partWith(1);
      return;
    }
    let prepared = await this.startRunner().isPrepared;
    if (prepared.type === 'start again') {
      this.nodeArguments.push(...prepared.nodeArguments);
      await this.runner.ended;
      prepared = await this.startRunner().isPrepared;
    }
    if (prepared.type !== 'ready') {
      this.agent.send({ type: 'unable', ...this.whyUnable(prepared) });
      await this.runner.ended;
      this.agent.partWith(1);
      return;
    }
    const ready = { type: 'ready', protocol: PROTOCOL, framework: this.framework.name };
    this.agent.send({ ...ready, version: prepared.version, runtime: runtime() });
  }

  obey(message) {
    if (message.type === 'run') this.work = this.work.then(() => this.run(message.file, message.tests));
    if (message.type === 'quit') this.work = this.work.then(() => this.quit());
  }

  whyUnable(prepared) {
    const { name } = this.framework;
    if (prepared.type === 'unable') return { message: prepared.message, hint: prepared.hint };
    if (prepared.type === 'ended' && prepared.end.status === BAD_NODE_OPTION) {
      const words = this.words.join(' ');
      return { message: `${name}: Node.js does not take one of these options: ${words}`, hint: 'its output is in the log' };
    }
    if (prepared.type === 'ended') {
      return { message: `the process that loads ${name} ${prepared.end.how}`, hint: 'its output is in the log' };
    }
    return { message: `the process that loads ${name} asks for options of Node.js a second time`, hint: '' };
  }

  startRunner() {
    const runner = new RunnerProcess(this.nodeArguments, this.words, this.script.environment);
    this.runner = runner;
    this.runners.add(runner);
    this.filesOfRunner.clear();
    runner.ended.then(() => {
      this.runners.delete(runner);
      // It died between two files, or before its first.
      if (this.runner === runner) this.runner = null;
    });
    return runner;
  }

  async run(file, tests) {
    if (this.runner === null) this.startRunner();
    else if (this.filesOfRunner.has(file) && !this.framework.canRepeat) await this.renewRunner();
    const runner = this.runner;
    this.filesOfRunner.add(file);
    const prepared = await runner.isPrepared;
    if (prepared.type !== 'ready') {
      this.runner = null;
      this.finish(result('broken', this.whyUnable(prepared).message));
      return;
    }
    const record = new FileRecord();
    const isFinished = this.listen(runner, record);
    runner.send({ type: 'run', file, tests });
    if (this.isolation === 'fork') this.startAhead();
    if (this.isolation !== 'shared') await this.seeOff(runner, isFinished);
    const end = await Promise.race([runner.ended, this.isolation === 'shared' ? isFinished : new Promise(() => {})]);
    if (record.result === null) this.reportDeath(record, end);
    else this.finish(end === undefined ? record.result : settle(record.result, end));
    if (this.runner === runner && record.result?.isLast) await this.renewRunner();
    if (this.isolation !== 'fork' && (record.result?.outcome ?? 'crashed') === 'crashed') this.end(1);
  }

  startAhead() {
    if (this.framework.loadsAhead?.(this.words)) this.runner = null;
    else this.startRunner();
  }

  /** One after the other: what the old one undoes, the new one may want to do again. */
  async renewRunner() {
    const { runner } = this;
    runner.send({ type: 'leave' });
    this.tellFailedEnd(await runner.ended);
    this.startRunner();
  }

  /** What a runner undoes when it leaves belongs to all of its files, and to none. */
  tellFailedEnd(end) {
    if (end.status === 0) return;
    const message = oneLine(`behind the last file, the process that ran the files ${end.how}`);
    this.agent.send({ type: 'end_failed', message });
  }

  /** Passes on what the runner says; the promise is kept when the file is finished. */
  listen(runner, record) {
    return new Promise((resolve) => {
      runner.act = (message) => {
        const forAgent = record.take(message);
        if (forAgent !== null && !this.agent.send(forAgent)) {
          runner.incoming.pause();
          this.agent.onRoom(() => runner.incoming.resume());
        }
        if (message.type === 'finished') resolve();
      };
    });
  }

  /** Sees to it that the runner of a finished file ends, if something it left open keeps it alive. */
  async seeOff(runner, isFinished) {
    await Promise.race([isFinished, runner.ended]);
    const urge = setTimeout(() => runner.send({ type: 'leave' }), LINGER_MILLISECONDS);
    const kill = setTimeout(() => runner.signal('SIGKILL'), LINGER_MILLISECONDS + LEAVE_MILLISECONDS);
    await runner.ended;
    clearTimeout(urge);
    clearTimeout(kill);
  }

  reportDeath(record, end) {
    for (const test of record.provisional.values()) this.agent.send({ type: 'test', ...test });
    const during = [...record.running.values()];
    const where = during.length > 0 ? `while ${during[0].id} ran` : 'before its tests were done';
    const message = oneLine(`the process running this file ${end.how} ${where}`);
    for (const test of during) {
      this.agent.send({ type: 'test', ...test, status: 'error', seconds: 0, message, details: '' });
    }
    this.finish(result('crashed', message));
  }

  finish({ outcome, message, details }) {
    const helpers = [...this.runners].map((runner) => runner.process.pid);
    this.agent.send({ type: 'finished', outcome, message, details, helpers });
  }

  /** Lets the runner of all files undo what it did; one that has not run a file has nothing to undo. */
  async quit() {
    const runner = this.runner;
    if (this.isolation === 'shared' && runner !== null && this.filesOfRunner.size > 0) {
      runner.send({ type: 'leave' });
      this.tellFailedEnd(await runner.ended);
      this.agent.partWith(0);
    } else {
      this.end(0);
    }
  }

  /** Ends everything that is left, and itself when the agent has heard the last of it. */
  end(status) {
    for (const runner of this.runners) runner.signal('SIGKILL');
    this.agent.partWith(status);
  }

  /** Ends everything: the agent is gone, or wants this worker to go. */
  async leave(signal) {
    for (const runner of this.runners) runner.signal(signal);
    await Promise.all([...this.runners].map((runner) => runner.ended));
    // First, what follows from that is said of their files.
    await new Promise((resolve) => setImmediate(resolve));
    process.exit(1);
  }
}

/** A process that leaves with a status other than zero after its tests passed. */
function settle(said, end) {
  if (end.status === 0 || said.outcome !== 'passed') return said;
  return result('failed', `no test failed, but the process running this file ${end.how}`);
}

// --------------------------------------------------------------------------------------------------------------------
// A runner

/** What a runner tells of the tests of a file. Written at once, so that it is said when the next test kills the process. */
class Report {
  constructor(key, wanted = []) {
    this.key = key;
    this.missing = new Set(wanted);
    this.isFinished = false;
  }

  /** The test runs from now on, in place of the one before or beside it. Wants its id, name, file and line. */
  enter(test, isBesideOthers = false) {
    this.say({ type: 'enter', test, isBesideOthers });
  }

  /** The test has ended. */
  test(test) {
    this.say({ type: 'test', test: this.complete(test) });
  }

  /** The test has ended, and may be run again; only what `test` says of it counts then, unless the process dies. */
  provisional(test) {
    this.say({ type: 'provisional', test: this.complete(test) });
  }

  complete({ seconds = 0, message = '', details = '', ...test }) {
    this.missing.delete(test.id);
    return { ...test, seconds: Math.max(0, seconds), message: oneLine(message), details: cut(details) };
  }

  /** The file is over. Said once; `run` can say so before it returns, or without returning. */
  finished(said) {
    if (this.isFinished) return;
    this.isFinished = true;
    const [missing] = this.missing;
    const hasRun = said.outcome === 'passed' || said.outcome === 'failed';
    const isIncomplete = missing !== undefined && hasRun;
    this.say({ type: 'finished', result: isIncomplete ? result('failed', `there is no test ${missing}`) : said });
  }

  say(message) {
    try {
      // It begins with an end of line, for the case that a test has written half a line here.
      writeAll(3, bytesOf(`\n${this.key}${stringify(message)}\n`));
    } catch {
      // The supervisor is gone, or a test has closed the channel: there is nobody to run tests for.
      process.kill(process.pid, 'SIGKILL');
    }
  }
}

function writeAll(descriptor, buffer) {
  let offset = 0;
  while (offset < buffer.length) offset += writeSync(descriptor, buffer, offset);
}

/** What package managers write into `node_modules` about all that is in there. */
const INSTALLED = ['.package-lock.json', '.yarn-integrity', '.yarn-state.yml', '.modules.yaml'];

/**
 * What decides on this machine what tests do and is not in the project: Node.js, and the versions of installed packages.
 * `undefined`: nobody knows, because no package manager says what it has installed.
 */
function runtime() {
  const node = `Node.js ${process.version} ${process.platform} ${process.arch}`;
  if (!fs.existsSync('node_modules')) return `${node}, no packages`;
  const lists = INSTALLED.map((name) => path.join('node_modules', name)).filter((file) => fs.existsSync(file));
  if (lists.length === 0) return undefined;
  const hash = crypto.createHash('sha256');
  for (const list of lists) hash.update(fs.readFileSync(list));
  return `${node}, packages ${hash.digest('hex').slice(0, 16)}`;
}

class Runner {
  constructor(framework, words, key, isolation) {
    Object.assign(this, { framework, words, key, isolation });
    this.report = new Report(key);
    // Not the tests' concern: it must not keep a process alive that has nothing else to do.
    this.channel = new net.Socket({ fd: 4, readable: true, writable: false });
  }

  async serve() {
    this.channel.on('close', () => process.kill(process.pid, 'SIGKILL'));
    readLines(this.channel, (line) => this.obey(parse(line)));
    try {
      const version = await this.framework.prepare(this.words);
      this.report.say({ type: 'ready', version });
    } catch (error) {
      this.report.say(this.whyNot(error));
      process.exit(1);
    }
  }

  whyNot(error) {
    const { name } = this.framework;
    if (error instanceof StartAgain) return { type: 'start again', nodeArguments: error.nodeArguments };
    if (error instanceof Unable) return { type: 'unable', message: error.message, hint: error.hint };
    process.stderr.write(`${account(error)}\n`);
    return { type: 'unable', message: `${name} did not load: ${headline(error)}`, hint: 'its output is in the log' };
  }

  obey(message) {
    if (message.type === 'run') this.run(message.file, message.tests);
    else if (message.type === 'leave') this.leave();
  }

  async run(file, tests) {
    const report = new Report(this.key, tests);
    if (this.isolation !== 'shared') this.channel.unref();
    let said;
    try {
      // A file before this one may have left.
      changeDirectory(DIRECTORY);
      said = await this.framework.run(file, tests, report);
      if (this.isolation !== 'shared') await this.close();
    } catch (error) {
      said = result('broken', headline(error), account(error));
    }
    report.finished(said);
    this.exitsAtOnce = said.exitsAtOnce;
    if (said.exitsAtOnce && this.isolation !== 'shared') process.exit();
  }

  async leave() {
    if (this.isolation === 'shared') {
      if (this.framework.lingers && !this.exitsAtOnce) await this.linger();
      try {
        changeDirectory(DIRECTORY);
        await this.close();
      } catch (error) {
        process.stderr.write(`${account(error)}\n`);
        this.report.say({ type: 'end_failed', message: oneLine(`behind the last file: ${headline(error)}`) });
      }
    }
    try {
      process.exit();
    } catch (error) {
      // By an exit handler; none is called a second time.
      process.stderr.write(`${account(error)}\n`);
      process.exit(UNCAUGHT);
    }
  }

  /** What tests have left undone may still fail: that has a while, if there is any. */
  async linger() {
    this.channel.unref();
    await new Promise((resolve) => {
      process.once('beforeExit', resolve);
      later(resolve, LINGER_MILLISECONDS).unref();
    });
    this.channel.ref();
  }

  async close() {
    await this.framework.close?.();
  }
}

// --------------------------------------------------------------------------------------------------------------------

/** The first word that can't be an option's value; an option without `=` may have several. */
function firstPath(words) {
  let mayBeValue = false;
  return words.find((word) => {
    if (word.startsWith('-')) mayBeValue = !word.includes('=');
    return !word.startsWith('-') && !mayBeValue;
  });
}

/** What a worker program does, in either of its two processes. */
function work(framework) {
  const isolation = process.env.DISTRIBUTEST_ISOLATION ?? 'fork';
  const words = process.argv.slice(2);
  const key = process.env.DISTRIBUTEST_CHANNEL;
  if (key === undefined) {
    const descriptor = Number(process.env.DISTRIBUTEST_FD);
    delete process.env.DISTRIBUTEST_FD;
    return new Supervisor(new Agent(descriptor), framework, isolation, words).serve();
  }
  delete process.env.DISTRIBUTEST_CHANNEL;
  delete process.env.DISTRIBUTEST_ISOLATION;
  delete process.env.DISTRIBUTEST_MAY_STAY;
  return new Runner(framework, words, key, isolation).serve();
}

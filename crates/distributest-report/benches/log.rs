//! The aggregated log's part of the way of a test's output, and of a file without any.

use std::hint::black_box;
use std::time::{Duration, SystemTime};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use distributest_core::identity::{AttemptId, FileId, HostId, RunnerId};
use distributest_core::outcome::Outcome;
use distributest_core::run_event::{AttemptReport, AttemptResult, BlockId, OutputStream, RunEvent};
use distributest_core::usage::Usage;
use distributest_report::{AggregatedLog, LogDestination, Reporter, prepare_log};

const RUNNER: RunnerId = RunnerId { host: HostId(0), number: 1 };

/// As large as a piece of output is on the wire at most.
const PIECE: usize = 64 * 1024;

fn log(directory: &tempfile::TempDir) -> AggregatedLog {
    let destination = LogDestination::File(directory.path().join("log"));
    AggregatedLog::new(prepare_log(&destination, "run", SystemTime::UNIX_EPOCH).expect("a log can be made"))
}

fn output(block: BlockId, bytes: usize) -> RunEvent {
    let bytes = b"a line of output such as tests write it\n".iter().copied().cycle().take(bytes).collect();
    RunEvent::Output { block, stream: OutputStream::Stdout, bytes }
}

fn finished(number: u64, block: BlockId) -> RunEvent {
    RunEvent::AttemptFinished(AttemptReport {
        attempt: AttemptId(number),
        file: FileId(0),
        runner: RUNNER,
        result: AttemptResult::Outcome(Outcome::Passed),
        duration: Duration::from_millis(5),
        usage: Usage::default(),
        message: String::new(),
        details: String::new(),
        leaked: Vec::new(),
        block: Some(block),
    })
}

fn tell(log: &mut AggregatedLog, event: &RunEvent) {
    log.on_event(Duration::ZERO, black_box(event)).expect("the disk has room");
}

fn write(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let mut group = criterion.benchmark_group("log");

    let pieces = 256;
    let block = BlockId { host: HostId(0), number: 1 };
    let (piece, end) = (output(block, PIECE), finished(1, block));
    group.sample_size(20).throughput(Throughput::Bytes((pieces * PIECE) as u64));
    group.bench_function("a file with 16 MB of output", |bencher| {
        bencher.iter_batched(
            || log(&directory),
            |mut log| {
                (0..pieces).for_each(|_| tell(&mut log, &piece));
                tell(&mut log, &end);
            },
            BatchSize::PerIteration,
        );
    });

    let files = 1000;
    let events: Vec<_> = (0..files)
        .map(|number| BlockId { host: HostId(0), number })
        .map(|block| [output(block, 80), finished(block.number, block)])
        .collect();
    group.throughput(Throughput::Elements(files));
    group.bench_function("files with a line of output each", |bencher| {
        bencher.iter_batched(
            || log(&directory),
            |mut log| events.iter().flatten().for_each(|event| tell(&mut log, event)),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, write);
criterion_main!(benches);

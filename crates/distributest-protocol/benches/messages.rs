//! Messages to bytes and back: what a test, a file and a piece of output cost on the way.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use distributest_core::test_result::{TestResult, TestStatus};
use distributest_protocol::conversions::test_to_wire;
use distributest_protocol::wire;
use distributest_protocol::wire::agent_message::Kind;
use distributest_protocol::wire::coordinator_message::Kind as Order;
use prost::Message;

/// As large as a piece of output is at most.
const PIECE: usize = 64 * 1024;

fn test() -> TestResult {
    TestResult {
        id: "tests/test_accounts.py::test_balance_is_kept".into(),
        name: "test_balance_is_kept".into(),
        status: TestStatus::Passed,
        duration: Duration::from_micros(1234),
        message: String::new(),
        details: String::new(),
        file: Some("tests/test_accounts.py".into()),
        line: Some(12),
    }
}

fn there_and_back<Wire: Message + Default>(message: &Wire) -> Wire {
    let bytes = black_box(message).encode_to_vec();
    Wire::decode(bytes.as_slice()).expect("what was encoded can be decoded")
}

fn messages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("messages");

    let passed = test();
    group.bench_function("a test's result", |bencher| {
        bencher.iter(|| {
            let kind = Some(Kind::TestFinished(test_to_wire(1, black_box(&passed).clone())));
            match there_and_back(&wire::AgentMessage { kind }).kind {
                Some(Kind::TestFinished(test)) => TestResult::try_from(test),
                other => unreachable!("{other:?} was not sent"),
            }
        });
    });

    let kind = Some(Order::Dispatch(wire::Dispatch {
        attempt: 1,
        runner: 1,
        file: "tests/test_accounts.py".into(),
        timeout_milliseconds: 600_000,
        expected_milliseconds: 1500,
        ..wire::Dispatch::default()
    }));
    let dispatch = wire::CoordinatorMessage { kind };
    group.bench_function("a dispatch", |bencher| bencher.iter(|| there_and_back(&dispatch)));

    let chunk = wire::OutputChunk { block: 1, stderr: false, data: vec![b'.'; PIECE].into(), plain_bytes: 0 };
    group.throughput(Throughput::Bytes(PIECE as u64));
    group.bench_function("64 KiB of output", |bencher| bencher.iter(|| there_and_back(&chunk)));
    group.finish();
}

criterion_group!(benches, messages);
criterion_main!(benches);

//! Turns a framework's launch description into what an agent is told.

use distributest_frameworks::{Framework, Isolation, Launch, LaunchOptions};
use distributest_protocol::conversions::milliseconds;
use distributest_protocol::wire;

/// How a framework's files are run, in the wire's form.
pub fn to_wire(framework: &Framework, options: &LaunchOptions) -> wire::Launch {
    let kind = match framework.launch(options) {
        Launch::Worker(worker) => wire::launch::Kind::Worker(wire::WorkerLaunch {
            programs: worker.programs,
            arguments: worker.arguments,
            worker_file_name: worker.worker_file_name.to_owned(),
            worker_source: worker.worker_source.as_bytes().to_vec(),
            worker_arguments: worker.worker_arguments,
            isolation: isolation(worker.isolation).into(),
            ready_timeout_milliseconds: milliseconds(worker.ready_timeout),
        }),
        Launch::OwnWorker(worker) => wire::launch::Kind::OwnWorker(wire::OwnWorkerLaunch {
            arguments: worker.arguments,
            isolation: isolation(worker.isolation).into(),
            ready_timeout_milliseconds: milliseconds(worker.ready_timeout),
        }),
        Launch::Command(launch) => wire::launch::Kind::Command(wire::CommandLaunch { command: launch.argv }),
    };
    wire::Launch { framework: framework.name().to_owned(), kind: Some(kind) }
}

fn isolation(isolation: Isolation) -> wire::Isolation {
    match isolation {
        Isolation::Fork => wire::Isolation::Fork,
        Isolation::Shared => wire::Isolation::Shared,
        Isolation::Process => wire::Isolation::Process,
    }
}

//! What a root is given when it starts, and what its spawner is told when it can't.

use std::time::Duration;

use distributest_process::{Exit, ProcessSpec, ProcessTree};
use tokio::io::AsyncReadExt;

fn shell(script: &str) -> ProcessSpec {
    ProcessSpec {
        program: "sh".into(),
        arguments: vec!["-c".into(), script.into()],
        environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
        directory: "/".into(),
        ..ProcessSpec::default()
    }
}

#[tokio::test]
async fn output_and_exit_status_come_back() {
    let mut tree = ProcessTree::spawn(shell("echo out; echo err >&2; exit 3")).unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    tree.take_stdout().unwrap().read_to_string(&mut out).await.unwrap();
    tree.take_stderr().unwrap().read_to_string(&mut err).await.unwrap();
    assert_eq!((out.as_str(), err.as_str()), ("out\n", "err\n"));
    assert_eq!(tree.wait().await, Exit::Code(3));
    assert_eq!(tree.leaked(Duration::ZERO).await.unwrap(), []);
}

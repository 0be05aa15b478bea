//! Makes the workspace the project's copy, before the first hook runs.
//!
//! The coordinator asks whether the workspace is what it should be, and sends what is missing; what that is, and when rsync
//! has to do it instead, is decided by `distributest_tree`. An older coordinator asks nothing and uses rsync. The first
//! order that has nothing to do with this ends it.
//!
//! The disk is waited for on a thread of its own, one question at a time, while this one keeps the pulse. The first look
//! at the workspace is taken while the coordinator still looks at the project.

use std::time::Duration;

use distributest_protocol::wire;
use distributest_protocol::wire::agent_message::Kind;
use distributest_protocol::wire::coordinator_message::Kind as Order;
use distributest_protocol::wire::workspace_compared::Answer as WireAnswer;
use distributest_tree::tree::Fingerprint;
use distributest_tree::workspace::{Answer, Workspace as Copy};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::{Instant, Interval, sleep_until};

use super::context::Updates;
use super::driver::{RunOver, heartbeat, refuse};
use super::workspace::Workspace;
use crate::failure::Failure;

/// The largest tree that is taken, encoded: that of half a million files.
const TREE_LIMIT_BYTES: usize = 64 * 1024 * 1024;

/// Answers the coordinator's questions about the workspace. Returns it with the first order that is none.
pub(crate) async fn synchronise(
    hello: &wire::Hello,
    workspace: Workspace,
    orders: &mut mpsc::Receiver<wire::CoordinatorMessage>,
    updates: &Updates,
) -> Result<(Workspace, wire::CoordinatorMessage), RunOver> {
    let lease = Duration::from_millis(hello.lease_milliseconds.max(1).into());
    let mut pulse = heartbeat(hello);
    let mut questions = Questions::new(&workspace);
    let mut silence_ends = Instant::now() + lease;
    loop {
        let order = tokio::select! {
            // What came while this host was asleep must be seen before the silence that was none.
            biased;
            order = orders.recv() => order,
            () = sleep_until(silence_ends) => {
                tracing::warn!(?lease, "nothing was heard from the coordinator, the run is over");
                None
            }
            _ = pulse.tick() => {
                updates.heartbeat();
                continue;
            }
        };
        let Some(order) = order else { return Err(RunOver::CoordinatorGone) };
        silence_ends = Instant::now() + lease;
        let answered = keep_pulse(questions.answer(order), &mut pulse, updates).await;
        match answered {
            Ok(Answered::Silently) => {}
            Ok(Answered::With(answer)) => updates.send(Kind::WorkspaceCompared(to_wire(answer))).await,
            Ok(Answered::NoQuestion(order)) => return Ok((workspace, order)),
            Err(error) => {
                let failure = Failure::internal("compare the workspace", "").because(error.to_string());
                return Err(refuse(updates, failure.hint("please report this").into(), lease).await);
            }
        }
    }
}

async fn keep_pulse<Output>(
    work: impl Future<Output = Output>,
    pulse: &mut Interval,
    updates: &Updates,
) -> Output {
    tokio::pin!(work);
    loop {
        tokio::select! {
            output = &mut work => return output,
            _ = pulse.tick() => updates.heartbeat(),
        }
    }
}

/// What came of an order.
enum Answered {
    /// Nothing is said.
    Silently,
    With(Answer),
    /// It has nothing to do with the workspace.
    NoQuestion(wire::CoordinatorMessage),
}

/// What is known of the workspace, and what was heard of the project.
struct Questions {
    /// The first look, while it is taken.
    opening: Option<JoinHandle<Copy>>,
    copy: Option<Copy>,
    /// What has come of the project's tree.
    tree: Vec<u8>,
    /// The next tree is what rsync should have left.
    copying: bool,
}

impl Questions {
    fn new(workspace: &Workspace) -> Self {
        let opening = workspace.is_synced().then(|| spawn_blocking(workspace.opening()));
        Questions { opening, copy: None, tree: Vec::new(), copying: false }
    }

    async fn answer(&mut self, order: wire::CoordinatorMessage) -> Result<Answered, JoinError> {
        let answer = match order.kind {
            Some(Order::CompareWorkspace(compare)) => {
                let Some(fingerprint) = Fingerprint::from_bytes(&compare.fingerprint) else {
                    return Ok(Answered::With(Answer::TreeWanted));
                };
                self.ask(move |copy| Some(copy.compare(fingerprint))).await?
            }
            Some(Order::ProjectTree(tree)) => {
                self.tree.extend_from_slice(&tree.piece);
                // What is cut off can't be decoded, and rsync does the rest.
                self.tree.truncate(TREE_LIMIT_BYTES);
                if !tree.last {
                    return Ok(Answered::Silently);
                }
                let encoded = std::mem::take(&mut self.tree);
                if self.copying { self.remember(encoded).await? } else { self.compare(encoded).await? }
            }
            Some(Order::FileContent(content)) => {
                let entry = usize::try_from(content.entry).unwrap_or(usize::MAX);
                let take = move |copy: &mut Copy| {
                    copy.receive(entry, &content.piece, content.last, !content.changed)
                };
                self.ask(take).await?
            }
            Some(Order::Heartbeat(_) | Order::Hello(_)) | None => None,
            Some(_) => return Ok(Answered::NoQuestion(order)),
        };
        self.copying |= matches!(answer, Some(Answer::CopyWanted(_)));
        Ok(answer.map_or(Answered::Silently, Answered::With))
    }

    async fn compare(&mut self, encoded: Vec<u8>) -> Result<Option<Answer>, JoinError> {
        self.ask(move |copy| Some(copy.compare_with(&encoded))).await
    }

    async fn remember(&mut self, encoded: Vec<u8>) -> Result<Option<Answer>, JoinError> {
        let remember = move |copy: &mut Copy| {
            // The workspace is complete; it is only the next comparison that there is nothing for.
            if let Err(error) = copy.copied(&encoded) {
                tracing::warn!(%error, "failed to remember what was copied");
            }
            None
        };
        self.ask(remember).await
    }

    /// Asks on a thread that may wait for the disk. Where nothing is synced there is no answer.
    async fn ask(
        &mut self,
        question: impl FnOnce(&mut Copy) -> Option<Answer> + Send + 'static,
    ) -> Result<Option<Answer>, JoinError> {
        if let Some(opening) = self.opening.take() {
            self.copy = Some(opening.await?);
        }
        let Some(mut copy) = self.copy.take() else { return Ok(None) };
        let (copy, answer) = spawn_blocking(move || {
            let answer = question(&mut copy);
            (copy, answer)
        })
        .await?;
        self.copy = Some(copy);
        Ok(answer)
    }
}

fn to_wire(answer: Answer) -> wire::WorkspaceCompared {
    let (answer, files, reason) = match answer {
        Answer::Same => (WireAnswer::Same, Vec::new(), String::new()),
        Answer::TreeWanted => (WireAnswer::TreeWanted, Vec::new(), String::new()),
        Answer::FilesWanted(files) => {
            let files = files.into_iter().map(|file| u32::try_from(file).unwrap_or(u32::MAX));
            (WireAnswer::FilesWanted, files.collect(), String::new())
        }
        Answer::CopyWanted(reason) => (WireAnswer::CopyWanted, Vec::new(), reason),
    };
    wire::WorkspaceCompared { answer: answer.into(), files, reason }
}

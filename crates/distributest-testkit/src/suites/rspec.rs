//! Ruby files for RSpec: an example that sleeps, then one of the file's kind.

use std::time::Duration;

use distributest_core::test_result::TestStatus;

use super::{ExpectedFile, ExpectedTest, Kind};

pub(super) const PROJECT_FILES: &[(&str, &str)] =
    &[(".rspec", "--require spec_helper\n"), ("spec/spec_helper.rb", "RSpec.configure { |_config| }\n")];

pub(super) fn file(number: usize, kind: Kind, duration: Duration) -> (String, ExpectedFile) {
    let path = format!("spec/file_{number:04}_spec.rb");
    let (example, status) = match kind {
        Kind::Pass => ("it('passes') { expect(1 + 1).to eq(2) }", Some(TestStatus::Passed)),
        Kind::Fail => ("it('fails') { expect(1 + 1).to eq(3) }", Some(TestStatus::Failed)),
        Kind::Skip => ("it('is skipped', skip: 'made to be skipped') { raise }", Some(TestStatus::Skipped)),
        Kind::ExpectedFailure => (
            "it('fails as said', pending: 'made to fail') { expect(1 + 1).to eq(3) }",
            Some(TestStatus::ExpectedFailure),
        ),
        Kind::Broken => ("raise 'made not to load'", None),
        Kind::Crash => ("it('crashes') { Process.kill(:KILL, Process.pid) }", Some(TestStatus::Error)),
    };
    let seconds = duration.as_secs_f64();
    let text = format!(
        "RSpec.describe 'file {number}' do\n  it 'sleeps' do\n    sleep {seconds:.3}\n    \
         puts '{path} slept {seconds:.3} s'\n  end\n\n  {example}\nend\n"
    );
    let test = |place: u32, status| ExpectedTest { id: format!("./{path}[1:{place}]"), status };
    let sleeps = (kind != Kind::Broken).then(|| test(1, TestStatus::Passed));
    let tests = sleeps.into_iter().chain(status.map(|status| test(2, status))).collect();
    (text, ExpectedFile { path, kind, duration, tests })
}

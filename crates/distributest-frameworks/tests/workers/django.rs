//! The Django worker against a real Django.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::support::{Project, Start, Worker, assert_same};
use crate::unittest::{recorded, statuses};
use distributest_frameworks::{Framework, Isolation, Selection, discover};

const KINDS: &str = "shop/tests/test_kinds.py";

/// Files that end a plain run, or leave the database to the tests behind them so that these fail.
const MISBEHAVING: [&str; 3] =
    ["shop/tests/test_crashes.py", "shop/tests/test_empties.py", "shop/tests/test_import_error.py"];

fn framework() -> Framework {
    Framework::named("django").unwrap()
}

/// A worker in an environment with these variables.
fn worker_with(project: &Project, isolation: Isolation, variables: &[&str], arguments: &[&str]) -> Worker {
    let program_arguments: Vec<&str> = variables.iter().copied().chain(["/usr/bin/python3"]).collect();
    let start = Start {
        framework: framework(),
        program: PathBuf::from("env"),
        program_arguments: &program_arguments,
        arguments,
        isolation,
        may_stay: false,
    };
    start.worker(project)
}

fn ready(mut worker: Worker) -> Worker {
    let ready = worker.next().unwrap();
    assert_eq!(ready["type"], "ready", "{ready}; output: {}", worker.output());
    worker
}

fn forking(project: &Project) -> Worker {
    ready(worker_with(project, Isolation::Fork, &["DISTRIBUTEST_RUNNER=host_me_2"], &[]))
}

fn test_files(project: &Project) -> Vec<String> {
    let found = discover(project.path(), &Selection::of(framework())).unwrap().files;
    let paths = found.into_iter().map(|file| file.path);
    paths.filter(|path| !MISBEHAVING.contains(&path.as_str())).collect()
}

/// Status by test id, from a plain `manage.py test`.
fn reference(arguments: &[&str]) -> BTreeMap<String, String> {
    let project = Project::copy_of("django");
    for file in MISBEHAVING {
        fs::remove_file(project.path().join(file)).unwrap();
    }
    let reports = project.path().join("reports");
    let output = Command::new("/usr/bin/python3")
        .args(["manage.py", "test"])
        .args(arguments)
        .current_dir(project.path())
        .env("PYTHONPATH", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("SHOP_TEST_RUNNER", "django_reference.Recorder")
        .env("REFERENCE_RUNNER", "website.runner.ShopRunner")
        .env("REFERENCE_REPORTS", &reports)
        .output()
        .unwrap();
    assert!(reports.exists(), "{}", String::from_utf8_lossy(&output.stderr));
    statuses(&recorded(&reports))
}

#[test]
fn reports_the_same_tests_with_the_same_status_as_manage_py_test() {
    let project = Project::copy_of("django");
    for arguments in
        [&[][..], &["--tag", "simple"], &["--exclude-tag=slow", "-k", "Rollback", "-k", "*fail*"]]
    {
        let mut expected = reference(arguments);
        assert!(expected.len() >= 2, "{arguments:?}");
        let some_fail = "shop.tests.test_kinds.Subtests.test_some_fail";
        if expected.keys().any(|id| id.starts_with(some_fail)) {
            // Django records nothing but its subtest.
            expected.insert(some_fail.to_owned(), "failed".to_owned());
        }
        for isolation in [Isolation::Fork, Isolation::Shared] {
            let mut worker = ready(worker_with(&project, isolation, &[], arguments));
            let mut actual = BTreeMap::new();
            for file in test_files(&project) {
                let report = worker.run(&file);
                assert!(["passed", "failed"].contains(&report.outcome()), "{file}: {}", report.finished);
                actual.extend(report.statuses());
            }
            assert_same(&actual, &expected);
            worker.quit();
        }
    }
}

#[test]
fn databases_are_set_up_once_for_the_files_that_need_them() {
    let project = Project::copy_of("django");
    let mut worker = forking(&project);
    assert_eq!(worker.run("shop/tests/test_simple.py").outcome(), "passed");
    assert!(!worker.output().contains("setting up"), "{}", worker.output());
    // The crash needs one database, the others need both.
    for file in ["shop/tests/test_crashes.py", "shop/tests/test_first.py", KINDS, "shop/tests/test_last.py"] {
        worker.run(file);
    }
    let output = worker.quit();
    let set_up: Vec<_> = output.lines().filter(|line| line.starts_with("setting up")).collect();
    assert_eq!(set_up, ["setting up default", "setting up archive"], "{output}");
}

#[test]
fn every_file_sees_databases_as_they_were_set_up() {
    let project = Project::copy_of("django");
    let in_a_file = "SHOP_TEST_FILE=shop_test.sqlite3";
    for (isolation, place) in [
        (Isolation::Fork, "SHOP_TEST_FILE="),
        (Isolation::Fork, in_a_file),
        (Isolation::Shared, "SHOP_TEST_FILE="),
        (Isolation::Shared, in_a_file),
    ] {
        let mut worker = ready(worker_with(&project, isolation, &[place], &[]));
        for file in ["shop/tests/test_first.py", "shop/tests/test_empties.py", "shop/tests/test_last.py"] {
            let report = worker.run(file);
            assert_eq!(report.outcome(), "passed", "{isolation:?} {place} {file}: {:?}", report.tests);
        }
        if isolation == Isolation::Fork {
            assert_eq!(worker.run("shop/tests/test_crashes.py").outcome(), "crashed");
            let report = worker.run("shop/tests/test_last.py");
            assert_eq!(report.outcome(), "passed", "{place}: {:?}", report.tests);
        }
        worker.quit();
        assert!(!project.path().join("shop_test.sqlite3").exists());
    }
}

#[test]
fn runners_have_databases_of_their_own() {
    let project = Project::copy_of("django");
    let names = |variables: &[&str]| -> Vec<String> {
        let variables: Vec<&str> = [&["SHOP_TEST_FILE=shop_test.sqlite3"], variables].concat();
        let mut worker = ready(worker_with(&project, Isolation::Fork, &variables, &[]));
        worker.run_tests(KINDS, &["shop.tests.test_kinds.Names.test_prints_names"]);
        let output = worker.quit();
        output.lines().filter_map(|line| line.strip_prefix("database default ")).map(str::to_owned).collect()
    };
    assert_eq!(names(&[]), ["shop_test.sqlite3"]);
    assert_eq!(names(&["TEST_ENV_NUMBER=3"]), ["shop_test_3.sqlite3"]);
    assert_eq!(
        names(&["TEST_ENV_NUMBER=3", "DISTRIBUTEST_RUNNER=desk_anna_3"]),
        ["shop_test_desk_anna_3.sqlite3"]
    );
    let left: Vec<_> =
        fs::read_dir(project.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("sqlite3")), "{left:?}");
}

#[test]
fn only_the_tests_asked_for_are_run() {
    let project = Project::copy_of("django");
    let mut worker = forking(&project);
    let test = "shop.tests.test_kinds.Rollback.test_3_asks_a_view";
    let report = worker.run_tests(KINDS, &[test, "shop.tests.test_kinds.Gone.test_gone"]);
    assert_eq!(report.statuses(), BTreeMap::from([(test.to_owned(), "passed".to_owned())]));
    assert_eq!(report.outcome(), "failed");
    assert_eq!(report.message(), "unittest finds no such test: shop.tests.test_kinds.Gone.test_gone");
    let test = report.test(test);
    assert_eq!(
        (test["file"].as_str(), test["name"].as_str()),
        (Some(KINDS), Some("Rollback.test_3_asks_a_view"))
    );
    worker.quit();
}

#[test]
fn what_django_can_not_set_up_is_told_by_every_file() {
    let project = Project::copy_of("django");
    project.write("shop/migrations/0002_broken.py", "raise RuntimeError('this migration does not load')\n");
    let mut worker = forking(&project);
    for file in ["shop/tests/test_first.py", "shop/tests/test_last.py"] {
        let report = worker.run(file);
        assert_eq!(report.outcome(), "broken");
        assert_eq!(
            report.message(),
            "Django can't set up its tests: RuntimeError: this migration does not load"
        );
    }
    worker.quit();
    fs::remove_file(project.path().join("shop/migrations/0002_broken.py")).unwrap();

    project.write(
        "shop/apps.py",
        "from django.apps import AppConfig\nfrom django.core import checks\n\n\
         class Shop(AppConfig):\n    name = 'shop'\n\n    def ready(self):\n        \
         checks.register(lambda **_: [checks.Error('the shop is closed')])\n",
    );
    let report = forking(&project).run("shop/tests/test_simple.py");
    assert_eq!(report.outcome(), "broken");
    assert!(
        report.finished["details"].as_str().unwrap().contains("the shop is closed"),
        "{}",
        report.finished
    );
}

#[test]
fn says_why_it_cannot_work() {
    let project = Project::copy_of("django");
    let unable = |variables: &[&str], arguments: &[&str]| {
        let mut worker = worker_with(&project, Isolation::Fork, variables, arguments);
        let unable = worker.next().unwrap();
        assert_eq!(unable["type"], "unable", "{unable}");
        assert_eq!(worker.next(), None);
        unable["message"].as_str().unwrap().to_owned()
    };
    for (variables, arguments, message) in [
        (
            &["SHOP_TEST_RUNNER=website.runner.NoRunner"][..],
            &[][..],
            "is no subclass of django.test.runner.DiscoverRunner",
        ),
        (&["DJANGO_SETTINGS_MODULE=nowhere"], &[], "ModuleNotFoundError: No module named 'nowhere'"),
        (&[], &["--no-such-option"], "manage.py test does not start: it left with status 2"),
        (&[], &["shop.tests"], "test labels can't be given after --: shop.tests"),
    ] {
        let told = unable(variables, arguments);
        assert!(told.contains(message), "{told}");
    }
    project.write(
        "manage.py",
        "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'website.settings')\n",
    );
    assert_eq!(unable(&[], &[]), "manage.py test does not run Django's test command");
    let isolated = Start {
        framework: framework(),
        program: PathBuf::from("/usr/bin/python3"),
        program_arguments: &["-S"],
        arguments: &[],
        isolation: Isolation::Fork,
        may_stay: false,
    };
    let told = isolated.worker(&project).next().unwrap();
    assert!(
        told["message"].as_str().unwrap().starts_with("Django is not installed for /usr/bin/python3 "),
        "{told}"
    );
}

//! Finding test files in real directories.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use distributest_frameworks::{DiscoverError, Discovered, Framework, Selection, discover};

struct Project(tempfile::TempDir);

impl Project {
    fn with(files: &[&str]) -> Project {
        let project = Project(tempfile::tempdir().unwrap());
        for file in files {
            project.write(file, "");
        }
        project
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn discover(&self, selection: &Selection) -> Discovered {
        discover(self.path(), selection).unwrap()
    }

    fn paths(&self, selection: &Selection) -> Vec<String> {
        self.discover(selection).files.into_iter().map(|file| file.path).collect()
    }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

fn pytest() -> Selection {
    Selection::of(Framework::named("pytest").unwrap())
}

fn rspec() -> Selection {
    Selection::of(Framework::named("rspec").unwrap())
}

#[test]
fn pytest_finds_what_pytest_would_and_keeps_out_of_what_it_would() {
    let project = Project::with(&[
        "test_top.py",
        "pkg/tests/test_a.py",
        "pkg/tests/b_test.py",
        "pkg/tests/helper.py",
        "pkg/tests/test_doc.txt",
        "pkg/tests/README.txt",
        "build/test_no.py",
        "node_modules/x/test_no.py",
        ".hidden/test_no.py",
        "env/pyvenv.cfg",
        "env/lib/test_no.py",
        "{arch}/test_no.py",
        "arch/test_yes.py",
    ]);
    let expected = [
        "arch/test_yes.py",
        "pkg/tests/b_test.py",
        "pkg/tests/test_a.py",
        "pkg/tests/test_doc.txt",
        "test_top.py",
    ];
    assert_eq!(project.paths(&pytest()), expected);
}

#[test]
fn exunit_finds_what_mix_exs_says_where_it_says_it_in_so_many_words() {
    let files =
        ["test/a_test.exs", "test/deep/b_spec.exs", "spec/c_spec.exs", "spec/d_test.exs", "lib/e_test.exs"];
    let project = Project::with(&files);
    let exunit = Selection::of(Framework::named("exunit").unwrap());
    let found = |options: &str| {
        let text =
            format!("defmodule M do\n  use Mix.Project\n  def project, do: [app: :m, {options}]\nend\n");
        project.write("mix.exs", &text);
        project.paths(&exunit).join(" ")
    };
    assert_eq!(found("deps: []"), "test/a_test.exs");
    assert_eq!(found("test_paths: [\"test\", \"./spec/\"]"), "spec/d_test.exs test/a_test.exs");
    assert_eq!(found("test_pattern: \"*_spec.exs\""), "test/deep/b_spec.exs");
    assert_eq!(
        found("test_paths: ~w(lib spec),\n test_pattern: \"*_{test,spec}.exs\""),
        "lib/e_test.exs spec/c_spec.exs spec/d_test.exs"
    );
    assert_eq!(
        found("test_paths: [\n  \"lib\", # beside the code\n  \"spec\",\n],"),
        "lib/e_test.exs spec/d_test.exs"
    );
    assert_eq!(found("test_paths: [\".\"]"), "lib/e_test.exs spec/d_test.exs test/a_test.exs");
    for unknown in [
        "# test_paths: [\"spec\"]\n",
        "test_paths: test_paths(Mix.env())",
        "test_paths: [\"spec\"] ++ more()",
        "test_paths: [\"#{here()}/spec\"]",
        "warn_test_pattern: \"*_spec.exs\"",
        "a: [test_paths: [\"lib\"]], b: [test_paths: [\"spec\"]]",
        "test_paths: [\"sp\" <> \"ec\"]",
    ] {
        assert_eq!(found(unknown), "test/a_test.exs", "{unknown}");
    }
}

#[test]
fn each_application_of_an_umbrella_project_says_where_its_tests_are() {
    let project = Project::with(&[
        "test/root_test.exs",
        "apps/one/test/a_test.exs",
        "apps/one/spec/b_test.exs",
        "apps/two/mix.exs",
        "apps/two/test/c_test.exs",
        "apps/two/spec/d_test.exs",
        "apps/README.md",
    ]);
    project.write("mix.exs", "[apps_path: \"apps\"]");
    project.write("apps/one/mix.exs", "[app: :one, test_paths: [\"spec\"]]");
    let found = project.paths(&Selection::of(Framework::named("exunit").unwrap()));
    assert_eq!(found, ["apps/one/spec/b_test.exs", "apps/two/test/c_test.exs", "test/root_test.exs"]);
}

#[test]
fn pytests_own_configuration_counts() {
    let project = Project::with(&[
        "unit/check_a.py",
        "unit/test_a.py",
        "unit/old/check_b.py",
        "unit/skip/check_c.py",
        "plugins/one/tests/check_d.py",
        "plugins/two/other/check_e.py",
        "build/check_f.py",
    ]);
    project.write(
        "pytest.ini",
        "[pytest]\ntestpaths = unit plugins/*/tests build\npython_files = check_*.py\nnorecursedirs = old\n\
         addopts = --ignore=unit/skip\n",
    );
    let expected = ["build/check_f.py", "plugins/one/tests/check_d.py", "unit/check_a.py"];
    assert_eq!(project.paths(&pytest()), expected);
    // Paths given on the command line replace `testpaths`.
    let only = Selection { only: strings(&["plugins"]), ..pytest() };
    assert_eq!(project.paths(&only), ["plugins/one/tests/check_d.py", "plugins/two/other/check_e.py"]);
    // `testpaths` that lead nowhere count for nothing.
    project.write("pytest.ini", "[pytest]\ntestpaths = nowhere\n");
    assert_eq!(project.paths(&pytest()), ["unit/test_a.py"]);
    project.write("pytest.ini", "[pytest]\ntestpaths = .\n");
    assert_eq!(project.paths(&pytest()), ["unit/test_a.py"]);
}

#[test]
fn rspec_finds_what_rspec_would() {
    let project = Project::with(&[
        "spec/a_spec.rb",
        "spec/models/b_spec.rb",
        "spec/models/helper.rb",
        "spec/.hidden/c_spec.rb",
        "lib/d_spec.rb",
        "vendor/spec/e_spec.rb",
        "features/f_spec.rb",
    ]);
    assert_eq!(project.paths(&rspec()), ["spec/a_spec.rb", "spec/models/b_spec.rb"]);
    let only = Selection { only: strings(&["features/"]), ..rspec() };
    assert_eq!(project.paths(&only), ["features/f_spec.rb"]);
    project.write(".rspec", "--pattern '{spec,lib}/**/*_spec.rb' --exclude-pattern **/b_spec.rb\n");
    assert_eq!(project.paths(&rspec()), ["lib/d_spec.rb", "spec/a_spec.rb"]);
}

#[test]
fn links_to_directories_are_followed_and_loops_are_not() {
    let project = Project::with(&["spec/a_spec.rb", "shared/deep/b_spec.rb"]);
    std::os::unix::fs::symlink("../shared", project.path().join("spec/linked")).unwrap();
    std::os::unix::fs::symlink("..", project.path().join("spec/loop")).unwrap();
    std::os::unix::fs::symlink("nowhere", project.path().join("spec/dangling_spec.rb")).unwrap();
    let paths = project.paths(&rspec());
    assert_eq!(paths, ["spec/a_spec.rb", "spec/linked/deep/b_spec.rb"]);
}

#[test]
fn globs_replace_the_frameworks_own_and_the_unmatched_are_told() {
    let project =
        Project::with(&["checks/a.sh", "checks/deep/b.sh", "checks/.c.sh", ".ci/d.sh", "node_modules/e.sh"]);
    let selection = |files: &[&str], exclude: &[&str], only: &[&str]| Selection {
        framework: Framework::command(),
        files: strings(files),
        exclude: strings(exclude),
        only: strings(only),
    };
    let found = project.discover(&selection(&["checks/*.sh", "no/*.sh", "./.ci/*.sh"], &[], &[]));
    assert_eq!(found.files.iter().map(|file| &file.path).collect::<Vec<_>>(), [".ci/d.sh", "checks/a.sh"]);
    assert_eq!(found.unmatched, ["no/*.sh"]);
    assert_eq!(project.paths(&selection(&["**/*.sh"], &[], &[])), ["checks/a.sh", "checks/deep/b.sh"]);
    assert_eq!(project.paths(&selection(&["**/*.sh"], &["checks/deep"], &[])), ["checks/a.sh"]);
    assert_eq!(project.paths(&selection(&["**/*.sh"], &["**/a.sh"], &[])), ["checks/deep/b.sh"]);
    let narrowed = project.discover(&selection(&["checks/**/*.sh"], &[], &["checks/deep", "typo.sh"]));
    assert_eq!(narrowed.files.len(), 1);
    assert_eq!(narrowed.unmatched, ["typo.sh"]);
}

#[test]
fn a_file_given_by_name_is_taken_though_no_pattern_matches() {
    let project = Project::with(&["tests/checks.py", "tests/test_a.py", "notes.md"]);
    let only = Selection { only: strings(&["./tests/checks.py", "notes.md"]), ..pytest() };
    let found = project.discover(&only);
    assert_eq!(found.files.len(), 1);
    assert_eq!(found.files[0].path, "tests/checks.py");
    assert!(found.files[0].by_name_only);
    assert!(!project.discover(&pytest()).files[0].by_name_only);
    assert_eq!(found.unmatched, ["notes.md"]);
    let absolute = project.path().join("tests").to_str().unwrap().to_owned();
    assert_eq!(project.paths(&Selection { only: vec![absolute], ..pytest() }), ["tests/test_a.py"]);
    assert_eq!(project.paths(&Selection { only: strings(&["."]), ..pytest() }), ["tests/test_a.py"]);
}

#[test]
fn gitignore_counts_in_a_git_checkout_only() {
    let project = Project::with(&["tests/test_a.py", "generated/test_b.py"]);
    project.write(".gitignore", "generated/\n");
    assert_eq!(project.paths(&pytest()), ["generated/test_b.py", "tests/test_a.py"]);
    project.write(".git/HEAD", "ref: refs/heads/main\n");
    project.write(".git/test_never.py", "");
    assert_eq!(project.paths(&pytest()), ["tests/test_a.py"]);
}

#[test]
fn odd_names_are_found_and_those_that_are_not_utf_8_are_told() {
    let names = [
        "test_with space.py",
        "test_'quoted' \"twice\".py",
        "test_new\nline.py",
        "test_[x]{y}*?.py",
        "test_ü.py",
    ];
    let project = Project::with(&names);
    fs::write(project.path().join(OsStr::from_bytes(b"test_\xff.py")), "").unwrap();
    let found = project.discover(&pytest());
    let mut expected = strings(&names);
    expected.sort();
    assert_eq!(found.files.into_iter().map(|file| file.path).collect::<Vec<_>>(), expected);
    assert_eq!(found.unusable, ["test_\u{fffd}.py"]);
}

#[test]
fn files_are_described_for_the_first_plan() {
    let project = Project::with(&[]);
    let text = "it_behaves_like 'x'\ninclude_examples 'y'\ninclude_context 'z'\n";
    project.write("spec/shared_spec.rb", text);
    project.write("spec/long_spec.rb", &format!("{}it_behaves_like 'far away'\n", "#".repeat(300_000)));
    let found = project.discover(&rspec()).files;
    assert_eq!((found[0].size_bytes, found[0].shared_examples), (300_027, 0));
    assert_eq!((found[1].size_bytes, found[1].shared_examples), (text.len() as u64, 3));
    project.write(
        "test_a.py",
        "@pytest.mark.parametrize('a', [1])\ndef pytest_generate_tests(metafunc): pass\n",
    );
    assert_eq!(project.discover(&pytest()).files[0].shared_examples, 2);
}

#[test]
fn what_cannot_be_understood_is_an_error_that_names_it() {
    let project = Project::with(&["test_a.py"]);
    let error = |selection: &Selection| discover(project.path(), selection).unwrap_err();
    let bad_glob = error(&Selection { files: strings(&["tests/[a.py"]), ..pytest() });
    assert_eq!(bad_glob.to_string(), r#"invalid glob "tests/[a.py""#);
    let bad_exclude = error(&Selection { exclude: strings(&["{a"]), ..pytest() });
    assert!(
        matches!(bad_exclude, DiscoverError::InvalidGlob { ref glob, .. } if glob == "{a"),
        "{bad_exclude}"
    );
    for outside in ["../other", "/etc", "a/../../b"] {
        let error = error(&Selection { only: strings(&[outside]), ..pytest() });
        assert!(
            matches!(error, DiscoverError::OutsideProject { ref path, .. } if path == outside),
            "{error}"
        );
    }
    let outside = error(&Selection { files: strings(&["../*.py"]), ..pytest() });
    assert!(matches!(outside, DiscoverError::OutsideProject { .. }), "{outside}");
    let needed = error(&Selection::of(Framework::command()));
    assert_eq!(needed.to_string(), "framework command needs `files`: globs that say which files to run");
    project.write("pyproject.toml", "[tool.pytest.ini_options\n");
    let settings = error(&pytest());
    assert!(settings.to_string().ends_with("pyproject.toml"), "{settings}");
}

#[test]
fn minitest_finds_what_rake_and_rails_would() {
    let minitest = Selection::of(Framework::named("minitest").unwrap());
    let files = [
        "test/a_test.rb",
        "test/deep/test_b.rb",
        "test/fixtures/c_test.rb",
        "test/helper.rb",
        "test/system/d_test.rb",
        "test/test_helper.rb",
        "lib/e_test.rb",
        "spec/f_spec.rb",
    ];
    let project = Project::with(&files);
    let gem = ["test/a_test.rb", "test/deep/test_b.rb", "test/fixtures/c_test.rb", "test/system/d_test.rb"];
    assert_eq!(project.paths(&minitest), gem);
    project.write("spec/spec_helper.rb", "require 'minitest/autorun'");
    assert_eq!(project.paths(&minitest), [&["spec/f_spec.rb"], &gem[..]].concat());
    project.write("spec/spec_helper.rb", "require 'rspec'");
    project.write("config/application.rb", "");
    assert_eq!(project.paths(&minitest), ["test/a_test.rb"]);
    let system = Selection { only: strings(&["test/system", "lib/e_test.rb"]), ..minitest };
    assert_eq!(project.paths(&system), ["lib/e_test.rb", "test/system/d_test.rb"]);
}

#[test]
fn test_unit_finds_what_test_unit_would() {
    let project = Project::with(&[
        "test/a_test.rb",
        "test/b-test.rb",
        "test/deep/test-c.rb",
        "test/run-test.rb",
        "test/test_d.rb",
        "test/test-helper.rb",
        "test/testing.rb",
    ]);
    let found = project.paths(&Selection::of(Framework::named("test-unit").unwrap()));
    assert_eq!(found, ["test/a_test.rb", "test/b-test.rb", "test/deep/test-c.rb", "test/test_d.rb"]);
}

#[test]
fn bats_keeps_out_of_copies_of_itself() {
    let project = Project::with(&[
        "test/a.bats",
        "test/unit/b.bats",
        "test/helper.bash",
        "test/bats/bin/bats",
        "test/bats/test/bats.bats",
        "libraries/assert/load.bash",
        "libraries/assert/test/assert.bats",
    ]);
    project.write(".gitmodules", "[submodule \"assert\"]\n\tpath = libraries/assert\n");
    let selection = Selection::of(Framework::named("bats").unwrap());
    assert_eq!(project.paths(&selection), ["test/a.bats", "test/unit/b.bats"]);
}

#[test]
fn tap_finds_what_prove_would_below_t() {
    let project =
        Project::with(&["Makefile.PL", "t/a.t", "t/deep/b.t", "t/lib/Helper.pm", "xt/author.t", "c.t"]);
    let tap = Framework::named("tap").unwrap();
    assert_eq!(project.paths(&Selection::of(tap.clone())), ["t/a.t", "t/deep/b.t"]);
    let named = Selection { only: vec!["xt/author.t".into()], ..Selection::of(tap) };
    assert_eq!(project.paths(&named), ["xt/author.t"]);
}

#[test]
fn a_file_of_ruby_given_by_name_is_that_of_the_framework_it_is_named_for() {
    let project = Project::with(&["test/a_test.rb", "spec/a_spec.rb", "lib/other.rb"]);
    let given = |framework: &str| {
        let only = strings(&["test/a_test.rb", "spec/a_spec.rb", "lib/other.rb"]);
        project.paths(&Selection { only, ..Selection::of(Framework::named(framework).unwrap()) })
    };
    assert_eq!(given("rspec"), ["lib/other.rb", "spec/a_spec.rb"]);
    assert_eq!(given("minitest"), ["lib/other.rb", "test/a_test.rb"]);
    assert_eq!(given("test-unit"), ["lib/other.rb", "test/a_test.rb"]);
}

#[test]
fn a_whole_id_behind_a_file_is_not_doubled() {
    let pytest = Framework::named("pytest").unwrap();
    let id = |file: &str, suffix: &str| pytest.test_id(file, suffix);
    assert_eq!(id("tests/test_a.py", "::TestA::test_x[1]"), "tests/test_a.py::TestA::test_x[1]");
    assert_eq!(id("tests/test_a.py", "::tests/test_a.py::test_x"), "tests/test_a.py::test_x");
    assert_eq!(id("app/tests/test_a.py", "::tests/test_a.py::test_x"), "tests/test_a.py::test_x");
    assert_eq!(
        Framework::named("rspec").unwrap().test_id("spec/a_spec.rb", "::./spec/a_spec.rb[1:2]"),
        "./spec/a_spec.rb[1:2]"
    );
}

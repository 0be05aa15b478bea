//! Which files of a JavaScript project belong to which framework.

use std::fs;

use distributest_frameworks::{Framework, Selection, detect, discover};

struct Project(tempfile::TempDir);

impl Project {
    fn with(files: &[(&str, &str)]) -> Project {
        let project = Project(tempfile::tempdir().unwrap());
        for (name, text) in files {
            let path = project.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        project
    }

    /// The test files a framework has among these, which are empty.
    fn files(self, framework: &str, candidates: &[&str]) -> Vec<String> {
        for name in candidates {
            let path = self.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let selection = Selection::of(Framework::named(framework).unwrap());
        discover(self.0.path(), &selection).unwrap().files.into_iter().map(|file| file.path).collect()
    }

    /// The frameworks it uses, and by what they are known.
    fn detected(&self) -> Vec<(String, String)> {
        let found = detect(self.0.path(), &Framework::built_in());
        found.into_iter().map(|found| (found.framework.name().to_owned(), found.evidence)).collect()
    }
}

const CANDIDATES: [&str; 15] = [
    "src/__tests__/a.js",
    "src/b.test.ts",
    "src/c.spec.jsx",
    "src/d.test.mjs",
    "src/e.test.json",
    "src/f.js",
    "src/test.js",
    "dist/g.test.js",
    "e2e/h.test.js",
    "node_modules/x/i.test.js",
    "test/j.js",
    "test/deep/k.cjs",
    "test/helper.txt",
    "l-test.mjs",
    "test-m.js",
];

#[test]
fn without_configuration_each_has_its_defaults() {
    let files = |framework: &str, package: &str| {
        Project::with(&[("package.json", package)]).files(framework, &CANDIDATES)
    };
    let by_name = ["src/__tests__/a.js", "src/b.test.ts", "src/c.spec.jsx", "src/d.test.mjs", "src/test.js"];
    let mut jest = [&["dist/g.test.js", "e2e/h.test.js"], &by_name[..]].concat();
    assert_eq!(files("jest", r#"{"devDependencies": {"jest": "^30.0.0"}}"#), jest);
    jest.retain(|file| !file.ends_with(".mjs"));
    assert_eq!(files("jest", r#"{"devDependencies": {"jest": "^29.7.0"}}"#), jest);
    let vitest = ["dist/g.test.js", "e2e/h.test.js", "src/b.test.ts", "src/c.spec.jsx", "src/d.test.mjs"];
    assert_eq!(files("vitest", r#"{"devDependencies": {"vitest": "~4.0.0"}}"#), vitest);
    assert_eq!(files("vitest", r#"{"devDependencies": {"vitest": "^3.2.0"}}"#), vitest[1..]);
    assert_eq!(files("mocha", "{}"), ["test/j.js"]);
    assert_eq!(
        files("node-test", "{}"),
        [
            "dist/g.test.js",
            "e2e/h.test.js",
            "l-test.mjs",
            "src/d.test.mjs",
            "src/test.js",
            "test/deep/k.cjs",
            "test/j.js",
            "test-m.js"
        ]
    );
}

#[test]
fn jests_configuration_counts() {
    let configured = |name: &str, text: &str| Project::with(&[(name, text)]).files("jest", &CANDIDATES);
    let package = r#"{"jest": {"rootDir": "src", "testRegex": ".*\\.(spec|test)\\.[jt]sx?$"}}"#;
    assert_eq!(configured("package.json", package), ["src/b.test.ts", "src/c.spec.jsx"]);
    let module = "// testMatch: ['**/*.js'],\n\
                  module.exports = {\n  testMatch: ['<rootDir>/{e2e,test}/**/*.?(c)js', '!**/deep/**'],\n};\n";
    assert_eq!(configured("jest.config.js", module), ["e2e/h.test.js", "test/j.js"]);
    let typed = "import type { Config } from 'jest';\nconst config: Config = {\n  \
                 roots: ['<rootDir>/src', '<rootDir>/e2e'],\n  testPathIgnorePatterns: ['/node_modules/', '<rootDir>/e2e/', '__tests__'],\n  \
                 testMatch: computed(),\n};\nexport default config;\n";
    assert_eq!(
        configured("jest.config.ts", typed),
        ["src/b.test.ts", "src/c.spec.jsx", "src/d.test.mjs", "src/test.js"]
    );
    let named = Project::with(&[
        ("package.json", r#"{"scripts": {"test": "cross-env CI=1 jest --config=config/jest.json"}}"#),
        ("config/jest.json", r#"{"rootDir": "..", "testMatch": ["<rootDir>/e2e/**"]}"#),
    ]);
    assert_eq!(named.files("jest", &CANDIDATES), ["e2e/h.test.js"]);
}

#[test]
fn vitests_configuration_counts() {
    let configured = |name: &str, text: &str| Project::with(&[(name, text)]).files("vitest", &CANDIDATES);
    let own = "import { configDefaults, defineConfig } from 'vitest/config';\nexport default defineConfig({\n  test: {\n    \
               exclude: [...configDefaults.exclude, 'e2e/**'],\n    coverage: { include: ['nothing'] },\n  },\n});\n";
    assert_eq!(
        configured("vitest.config.ts", own),
        ["dist/g.test.js", "src/b.test.ts", "src/c.spec.jsx", "src/d.test.mjs"]
    );
    let of_vite =
        "export default ({ mode }) => ({ plugins: [], test: { include: ['test/**/*.?(c)js'] } });\n";
    assert_eq!(configured("vite.config.js", of_vite), ["test/deep/k.cjs", "test/j.js"]);
}

#[test]
fn mochas_configuration_counts() {
    let configured = |files: &[(&str, &str)]| Project::with(files).files("mocha", &CANDIDATES);
    let yaml = "spec:\n  - 'src/**/*.test.{ts,mjs}'\n  - test\nextension: [cjs]\nrecursive: true\n";
    assert_eq!(configured(&[(".mocharc.yml", yaml)]), ["src/b.test.ts", "src/d.test.mjs", "test/deep/k.cjs"]);
    let module = "'use strict';\nmodule.exports = { spec: './e2e/*.js', /* spec: 'x' */ require: ['y'] };\n";
    assert_eq!(configured(&[(".mocharc.cjs", module)]), ["e2e/h.test.js"]);
    let script = r#"{"scripts": {"lint": "eslint", "test": "npm run lint && NODE_ENV=test mocha -r x --recursive --ignore 'test/j.js' test"}}"#;
    assert_eq!(configured(&[("package.json", script)]), ["test/deep/k.cjs"]);
}

#[test]
fn the_scripts_of_a_project_say_what_node_tests() {
    let configured = |script: &str| {
        let package = format!(r#"{{"scripts": {{"test": "{script}"}}}}"#);
        Project::with(&[("package.json", &package)]).files("node-test", &CANDIDATES)
    };
    assert_eq!(
        configured("node --import tsx --test 'src/*.test.ts' e2e"),
        ["e2e/h.test.js", "src/b.test.ts"]
    );
    assert_eq!(configured("tsc && node --test test/"), ["test/deep/k.cjs", "test/j.js"]);
}

#[test]
fn a_project_shows_what_it_uses() {
    let detected = |files: &[(&str, &str)]| Project::with(files).detected();
    let named = |framework: &str, file: &str| [(framework.to_owned(), file.to_owned())];
    let package = |text| detected(&[("package.json", text), ("src/a.test.js", "")]);
    assert_eq!(package(r#"{"devDependencies": {"jest": "*"}}"#), named("jest", "package.json"));
    assert_eq!(package(r#"{"devDependencies": {"vitest": "*"}}"#), named("vitest", "package.json"));
    assert_eq!(package(r#"{"devDependencies": {"mocha": "*"}}"#), named("mocha", "package.json"));
    assert_eq!(package(r#"{"scripts": {"test": "node --test"}}"#), named("node-test", "package.json"));
    assert_eq!(package(r#"{"dependencies": {"express": "*"}}"#), []);
    assert_eq!(detected(&[("vitest.config.mts", "")]), named("vitest", "vitest.config.mts"));
    assert_eq!(detected(&[("jest.config.cjs", "")]), named("jest", "jest.config.cjs"));
    assert_eq!(detected(&[(".mocharc.json", "{}")]), named("mocha", ".mocharc.json"));
    let uses = "import { test } from 'node:test';\n";
    assert_eq!(detected(&[("lib/a.test.mjs", uses)]), named("node-test", "lib/a.test.mjs"));
    let both = r#"{"devDependencies": {"jest": "*", "mocha": "*"}}"#;
    let both = package(both).into_iter().map(|(framework, _)| framework).collect::<Vec<_>>();
    assert_eq!(both, ["jest", "mocha"]);
}

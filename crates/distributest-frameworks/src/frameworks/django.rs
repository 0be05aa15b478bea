//! Django's own test runner (`manage.py test`), Django 3.2 or newer.
//!
//! Files are found as `manage.py test` finds them without labels: `test*.py` beside `manage.py` and in packages below.

use std::path::{Path, PathBuf};

use crate::error::DiscoverError;
use crate::framework::{Definition, Evidence};
use crate::frameworks::python::{self, PythonFramework};
use crate::frameworks::unittest;
use crate::launch::{Launch, LaunchOptions, WorkerLaunch};
use crate::project_files::ProjectFiles;
use crate::rules::Rules;

pub(crate) struct Django;

impl Definition for Django {
    fn name(&self) -> &str {
        "django"
    }

    fn evidence(&self, project: &ProjectFiles<'_>) -> Option<Evidence> {
        python::evidence_of(PythonFramework::Django, project)
    }

    fn rules(&self, project: &Path, only: &[PathBuf]) -> Result<Rules, DiscoverError> {
        unittest::rules(project, &[], only)
    }

    fn accepts(&self, path: &Path) -> bool {
        path.extension().is_some_and(|extension| extension == "py")
    }

    fn multipliers(&self) -> &'static [&'static str] {
        &["load_tests", "parameterized.expand", "hypothesis.given", "@given"]
    }

    fn launch(&self, options: &LaunchOptions) -> Launch {
        Launch::Worker(WorkerLaunch::embedded(
            &python::PROGRAMS,
            "django_worker.py",
            python::worker_source!("unittest_cases.py", "django_worker.py"),
            options,
        ))
    }
}

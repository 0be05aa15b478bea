//! The workers that build before they run, against the real tools: what they report is compared with the tools' own reports.

mod cargo;
mod go;
mod support;

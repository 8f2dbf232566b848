//! `identityd policy`: what the policies say.
use super::{Exit, difference::difference, note, print};
use crate::authorization::{Bench, CASES, Case, Engine, INVARIANTS, POLICIES, SCHEMA, cases, lint};
use anyhow::Context as _;
use clap::{Subcommand, ValueEnum};
use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Print which role may do what: x may, o to one's own only
    Matrix {
        /// Compare with a file instead, and show the difference
        #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "policies/matrix.snap")]
        check: Option<PathBuf>,
    },
    /// Look for anything that policies allow and never must, in every combination of what they read
    Lint {
        /// Policies to look at instead of those in this binary: a directory with `*.cedar`, and perhaps a schema
        #[arg(long, value_name = "DIRECTORY")]
        policies: Option<PathBuf>,
        /// For whom to write
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Try the cases that are written down, and show those that are decided otherwise
    Test {
        /// Files of cases, in YAML or JSON, instead of those in this binary
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Policies to try instead of those in this binary
        #[arg(long, value_name = "DIRECTORY")]
        policies: Option<PathBuf>,
    },
    /// Say why a case is decided as it is, where each permit stops, and what alone would turn the answer over
    Explain {
        /// The case, or a part of its name
        name: String,
        /// Files of cases, in YAML or JSON, instead of those in this binary
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Policies to ask instead of those in this binary
        #[arg(long, value_name = "DIRECTORY")]
        policies: Option<PathBuf>,
    },
    /// Show what other policies would change: in the matrix, and in the cases
    Diff {
        /// The other policies
        #[arg(long, value_name = "DIRECTORY")]
        candidate: PathBuf,
        /// Files of cases, in YAML or JSON, instead of those in this binary
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

#[derive(Clone, Copy, Default, ValueEnum)]
pub(super) enum Output {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

pub(super) fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Matrix { check } => matrix(check),
        Command::Lint { policies, output } => find_faults(policies.as_deref(), output),
        Command::Test { files, policies } => test(&files, policies.as_deref()),
        Command::Explain { name, files, policies } => explain(&name, &files, policies.as_deref()),
        Command::Diff { candidate, files } => diff(&candidate, &files),
    }
}

fn test(files: &[PathBuf], directory: Option<&Path>) -> anyhow::Result<Exit> {
    let (schema, policies) = sources(directory)?;
    let (bench, all) = (Bench::new(&schema, &policies)?, read_cases(files)?);
    let (mut told, mut failed) = (String::new(), 0);
    for case in &all {
        let answer = bench.answer(case)?;
        let by_these = case.policies.is_empty() || case.policies == answer.policies;
        if answer.code != case.expect || !by_these {
            failed += 1;
            let _ = writeln!(
                told,
                "{}: {} {:?}, expected {} {:?}",
                case.name, answer.code, answer.policies, case.expect, case.policies
            );
        }
    }
    print(&format!("{told}{} cases, {failed} decided otherwise\n", all.len()))?;
    Ok(if failed == 0 { Exit::Ok } else { Exit::Unwell })
}

fn explain(name: &str, files: &[PathBuf], directory: Option<&Path>) -> anyhow::Result<Exit> {
    let (schema, policies) = sources(directory)?;
    let (bench, all) = (Bench::new(&schema, &policies)?, read_cases(files)?);
    let exact = all.iter().find(|case| case.name == name);
    let Some(case) = exact.or_else(|| all.iter().find(|case| case.name.contains(name))) else {
        note(format_args!("no case is called {name:?}"));
        return Ok(Exit::NotFound);
    };
    print(&bench.explain(case)?)?;
    Ok(Exit::Ok)
}

fn diff(candidate: &Path, files: &[PathBuf]) -> anyhow::Result<Exit> {
    let (schema, policies) = read(candidate)?;
    let matrix = |engine: Engine| engine.matrix().to_string();
    let ours = matrix(Engine::load(SCHEMA, POLICIES, false)?);
    let mut told = difference(&ours, &matrix(Engine::load(&schema, &policies, false)?));
    let (ours, theirs) = (Bench::new(SCHEMA, POLICIES)?, Bench::new(&schema, &policies)?);
    for case in read_cases(files)? {
        let (was, would) = (ours.answer(&case)?, theirs.answer(&case)?);
        if was != would {
            let _ = writeln!(
                told,
                "{}: {} {:?}, and would be {} {:?}",
                case.name, was.code, was.policies, would.code, would.policies
            );
        }
    }
    print(&told)?;
    Ok(if told.is_empty() { Exit::Ok } else { Exit::Difference })
}

fn read_cases(files: &[PathBuf]) -> anyhow::Result<Vec<Case>> {
    if files.is_empty() {
        return Ok(cases(CASES)?);
    }
    let mut all = vec![];
    for path in files {
        let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
        all.extend(cases(&text).with_context(|| format!("{} has no cases", path.display()))?);
    }
    Ok(all)
}

fn sources(directory: Option<&Path>) -> anyhow::Result<(String, String)> {
    directory.map_or_else(|| Ok((SCHEMA.to_owned(), POLICIES.to_owned())), read)
}

fn find_faults(directory: Option<&Path>, output: Output) -> anyhow::Result<Exit> {
    let (schema, policies) = sources(directory)?;
    let report = lint(&schema, &policies, INVARIANTS)?;
    match output {
        Output::Text => print(&report.to_string())?,
        Output::Json => print(&format!("{}\n", serde_json::to_string_pretty(&report)?))?,
    }
    Ok(if report.findings.is_empty() { Exit::Ok } else { Exit::Unwell })
}

/// The schema, which is ours where there is none, and all policies of a directory. Its invariants are not asked: what
/// must never be allowed is not for those to say who allow.
fn read(directory: &Path) -> anyhow::Result<(String, String)> {
    let unreadable = |path: &Path| format!("{} cannot be read", path.display());
    let (mut schema, mut policies, mut files) = (None, String::new(), vec![]);
    for entry in fs::read_dir(directory).with_context(|| unreadable(directory))? {
        files.push(entry?.path());
    }
    files.sort();
    for path in files {
        let text = || fs::read_to_string(&path).with_context(|| unreadable(&path));
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("cedarschema") => schema = Some(text()?),
            Some("cedar") if !path.ends_with("invariants.cedar") => policies += &text()?,
            _ => (),
        }
    }
    Ok((schema.unwrap_or_else(|| SCHEMA.to_owned()), policies))
}

fn matrix(check: Option<PathBuf>) -> anyhow::Result<Exit> {
    let matrix = Engine::load(SCHEMA, POLICIES, false)?.matrix().to_string();
    let Some(path) = check else {
        print(&matrix)?;
        return Ok(Exit::Ok);
    };
    let expected = fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    if expected == matrix {
        return Ok(Exit::Ok);
    }
    print(&difference(&expected, &matrix))?;
    note(format_args!(
        "the policies say something else than {}: look at the difference, and if it is meant, run \
         `identityd policy matrix` and put its output there",
        path.display()
    ));
    Ok(Exit::Difference)
}

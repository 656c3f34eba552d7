//! How the code is kept readable, checked: who may import whom, one owner per library, no clock in the core, sizes.
//!
//! Plain text search on purpose. It is easy to get around, and easy to understand when it speaks.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A file longer than this wants to be split by verb.
const FILE_LINES_MAX: usize = 600;

/// Rooms and the rooms of ours that they may name. What is not listed here is the crate's root, which holds `mod` lines.
const IMPORTS: &[(&str, &[&str])] = &[
    ("queue", &[]),
    ("clock", &["queue"]),
    ("calendar", &["queue"]),
    ("codec", &[]),
    ("json", &[]),
    ("args", &[]),
    ("descriptors", &[]),
    ("config", &["queue", "raft"]),
    ("storage", &["codec"]),
    ("raft", &["queue", "storage", "codec", "clock"]),
    ("worker", &["queue", "clock", "codec", "json", "args"]),
    ("leader", &["raft", "queue", "clock", "calendar", "worker"]),
    ("api", &["queue", "json", "args"]),
    ("client", &["api"]),
    ("http", &["raft", "api", "queue", "clock", "calendar"]),
    (
        "server",
        &["queue", "clock", "codec", "config", "storage", "raft", "worker", "leader", "api", "http", "descriptors"],
    ),
    ("cli", &["server", "client", "worker", "api", "config", "descriptors"]),
];

/// A word and the paths that may contain it.
const OWNERS: &[(&str, &[&str])] = &[
    ("openraft", &["src/raft/"]),
    ("rocksdb", &["src/storage/"]),
    ("bincode", &["src/codec/"]),
    ("clap", &["src/cli/", "src/main.rs"]),
    ("clap_complete", &["src/cli/"]),
    ("axum", &["src/http/"]),
    ("hyper", &["src/http/", "src/client/", "src/raft/"]),
    ("hyper_util", &["src/http/", "src/client/", "src/raft/"]),
    ("croner", &["src/calendar.rs"]),
    ("jiff", &["src/calendar.rs", "src/cli/"]),
    ("SystemTime", &["src/clock.rs"]),
];

/// What the pure core must not know: time, chance, order of hashes, rounding, the outside.
const CORE_WITHOUT: &[&str] =
    &["Instant", "SystemTime", "rand", "HashMap", "HashSet", "f32", "f64", "tokio", "async", "fs", "net", "thread"];

#[test]
fn each_room_imports_only_what_it_may() {
    check(&sources("src"), |file| {
        let Some((room, allowed)) = IMPORTS.iter().find(|(room, _)| file.room() == *room) else { return Vec::new() };
        let known = IMPORTS.iter().map(|(name, _)| *name);
        let wrong = known.filter(|other| other != room && !allowed.contains(other));
        let names = crate_names(&file.production());
        wrong.filter(|other| names.iter().any(|name| name == other)).map(|other| format!("imports {other}")).collect()
    });
}

#[test]
fn each_library_has_one_owner() {
    check(&sources("src"), |file| {
        let code = file.production();
        let foreign = OWNERS.iter().filter(|(_, paths)| !paths.iter().any(|path| file.path.starts_with(path)));
        foreign
            .filter(|(word, _)| has_word(&code, word))
            .map(|(word, paths)| format!("{word}: only in {paths:?}"))
            .collect()
    });
}

#[test]
fn the_core_is_pure() {
    check(&sources("src/queue"), |file| {
        let code = file.production();
        CORE_WITHOUT.iter().filter(|word| has_word(&code, word)).map(|word| format!("the core names {word}")).collect()
    });
}

#[test]
fn no_file_is_too_long() {
    let files = ["src", "tests", "benches"].map(sources).concat();
    check(&files, |file| {
        let lines = file.text.lines().count();
        if lines > FILE_LINES_MAX { vec![format!("{lines} lines; split it by verb")] } else { Vec::new() }
    });
}

#[test]
fn nothing_is_left_undone() {
    let files = ["src", "tests", "benches"].map(sources).concat();
    // Put together here, so that this file does not find itself.
    let marks = [["TO", "DO"], ["FIX", "ME"], ["XX", "X"], ["todo", "!("], ["unimplemented", "!("], ["dbg", "!("]];
    check(&files, |file| {
        let found = marks.iter().map(|parts| parts.concat()).filter(|mark| file.text.contains(mark.as_str()));
        found.map(|mark| format!("says {mark}")).collect()
    });
}

#[test]
fn nothing_unwraps_outside_tests() {
    check(&sources("src"), |file| {
        let lines = file.production();
        let found = lines.lines().filter(|line| line.contains(".unwrap()"));
        found.map(|line| format!("`{}`: say with expect why it cannot happen", line.trim())).collect()
    });
}

#[test]
fn each_dependency_has_a_reason() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the manifest is there");
    let mut problems = Vec::new();
    let (mut in_dependencies, mut previous) = (false, "");
    for line in manifest.lines() {
        if line.starts_with('[') {
            in_dependencies = line.contains("dependencies");
        } else if in_dependencies
            && !line.starts_with('#')
            && line.contains('=')
            && !previous.starts_with('#')
            && !line.contains(" # ")
        {
            problems.push(format!("Cargo.toml: no comment above `{line}`"));
        }
        previous = line;
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[derive(Clone)]
struct Source {
    /// From the repository's root, with slashes.
    path: String,
    text: String,
}

impl Source {
    /// The first folder or file below `src`, without its ending.
    fn room(&self) -> &str {
        let below = self.path.strip_prefix("src/").unwrap_or("");
        below.split('/').next().unwrap_or(below).trim_end_matches(".rs")
    }

    /// Code without comments and without tests: those are a file of their own, or the last thing in one.
    fn production(&self) -> String {
        if self.path.contains("/tests") || self.path.ends_with("tests.rs") {
            return String::new();
        }
        let mut code = String::new();
        let mut lines = self.text.lines().peekable();
        while let Some(line) = lines.next() {
            let declares = |next: &&str| next.trim_start().starts_with("mod ") && next.ends_with(';');
            if line.trim() == "#[cfg(test)]" && lines.next_if(declares).is_none() {
                break;
            }
            if !line.trim_start().starts_with("//") {
                code += line;
                code += "\n";
            }
        }
        code
    }
}

/// Collects what `problems` finds in each file, and fails with all of it.
fn check(files: &[Source], problems: impl Fn(&Source) -> Vec<String>) {
    let found: Vec<String> = files
        .iter()
        .flat_map(|file| {
            problems(file).into_iter().map(|problem| format!("{}: {problem}", file.path)).collect::<Vec<_>>()
        })
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a folder of the repository, in order.
fn sources(folder: &str) -> Vec<Source> {
    let mut files = Vec::new();
    collect(&root().join(folder), &mut files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn collect(folder: &Path, files: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.expect("the source tree can be read").path()) {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root()).expect("below the root").to_string_lossy().replace('\\', "/");
            files.push(Source { path: name, text: fs::read_to_string(&path).expect("a source file is UTF-8") });
        }
    }
}

/// The names that directly follow `crate::`, also inside `crate::{a::B, c}`.
fn crate_names(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, mark) in code.match_indices("crate::") {
        let rest = &code[at + mark.len()..];
        match rest.strip_prefix('{') {
            None => names.push(identifier(rest)),
            Some(group) => names.extend(top_level(group).iter().map(|item| identifier(item.trim_start()))),
        }
    }
    names
}

/// The comma-separated items of a brace group, given from behind its opening brace.
fn top_level(group: &str) -> Vec<&str> {
    let (mut items, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => {
                items.push(&group[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    items
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|character| is_word(*character)).collect()
}

fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, found)| {
        let before = text[..at].chars().next_back();
        let after = text[at + found.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

//! rsync's patterns, matched the way rsync matches them (its `wildmatch.c` and `rule_matches` in `exclude.c`).

/// A pattern of a filter rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// Without the slash it may begin or end with.
    text: Vec<u8>,
    /// It began with a slash: tied to the root of the transfer.
    anchored: bool,
    /// It ended with a slash: matches directories only.
    directories_only: bool,
    /// Slashes within it and at its beginning.
    slashes: usize,
    wild: Wild,
}

/// Which wildcards a pattern holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wild {
    /// None: a backslash is a backslash.
    None,
    /// Some, but no `**`.
    Single,
    /// A `**` somewhere.
    Double {
        /// It begins with it.
        at_start: bool,
        /// It ends with `***`.
        triple_at_end: bool,
    },
}

impl Pattern {
    /// `None` where this module does not know what rsync would do.
    pub(crate) fn parse(text: &[u8]) -> Option<Pattern> {
        if text.is_empty() || text.windows(2).any(|pair| pair == b"[:") {
            return None;
        }
        let wild = if !text.iter().any(|byte| b"*?[".contains(byte)) {
            Wild::None
        } else if text.windows(2).any(|pair| pair == b"**") {
            Wild::Double { at_start: text.starts_with(b"**"), triple_at_end: text.ends_with(b"***") }
        } else {
            Wild::Single
        };
        let directories_only = text.len() > 1 && text.ends_with(b"/");
        let text = &text[..text.len() - usize::from(directories_only)];
        let slashes = text.iter().filter(|byte| **byte == b'/').count();
        let anchored = text.starts_with(b"/");
        let text = text[usize::from(anchored)..].to_vec();
        Some(Pattern { text, anchored, directories_only, slashes, wild })
    }

    /// The path that the pattern matches and no other, if it is of that kind.
    pub(crate) fn only_path(&self) -> Option<&[u8]> {
        (self.anchored && self.wild == Wild::None && !self.directories_only).then_some(&self.text)
    }

    /// Whether it matches a path relative to the root of the transfer.
    pub(crate) fn matches(&self, path: &[u8], is_directory: bool) -> bool {
        let doubled = matches!(self.wild, Wild::Double { .. });
        let mut name = path;
        let mut prefix: &[u8] = b"";
        let mut suffix: &[u8] = b"";
        if self.slashes == 0 && !doubled {
            name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        } else if matches!(self.wild, Wild::Double { at_start: true, .. }) {
            prefix = b"/";
        }
        if !is_directory && self.directories_only {
            return false;
        }
        if is_directory && matches!(self.wild, Wild::Double { triple_at_end: true, .. }) {
            suffix = b"/";
        }
        if self.wild == Wild::None {
            return self.matches_literally(name);
        }
        let text = [prefix, name, suffix].concat();
        if !self.anchored && self.slashes > 0 && !doubled {
            return last_elements(&text, self.slashes + 1).is_some_and(|text| wild_match(&self.text, text));
        }
        if !self.anchored && matches!(self.wild, Wild::Double { at_start: false, .. }) {
            let later = text.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at + 1);
            return std::iter::once(0).chain(later).any(|start| wild_match(&self.text, &text[start..]));
        }
        wild_match(&self.text, &text)
    }

    fn matches_literally(&self, name: &[u8]) -> bool {
        if self.anchored {
            return name == self.text;
        }
        let before = name.strip_suffix(self.text.as_slice());
        before.is_some_and(|before| before.is_empty() || before.ends_with(b"/"))
    }
}

/// The last so many elements of a path; `None` when it has fewer.
fn last_elements(path: &[u8], count: usize) -> Option<&[u8]> {
    let mut missing = count;
    for (at, byte) in path.iter().enumerate().rev() {
        if *byte == b'/' {
            missing -= 1;
            if missing == 0 {
                return Some(&path[at + 1..]);
            }
        }
    }
    (missing == 1).then_some(path)
}

/// Whether the whole of `text` matches: `?` and `*` stop at slashes, `**` does not, a backslash takes the next character
/// as it is.
fn wild_match(pattern: &[u8], text: &[u8]) -> bool {
    let Some((first, rest)) = pattern.split_first() else { return text.is_empty() };
    match first {
        b'*' => {
            let stars = pattern.iter().take_while(|byte| **byte == b'*').count();
            let (crosses, rest) = (stars > 1, &pattern[stars..]);
            let reach = text.iter().position(|byte| *byte == b'/' && !crosses).unwrap_or(text.len());
            if rest.is_empty() {
                return reach == text.len();
            }
            (0..=reach).any(|taken| wild_match(rest, &text[taken..]))
        }
        b'?' => text.split_first().is_some_and(|(byte, text)| *byte != b'/' && wild_match(rest, text)),
        b'[' => {
            let Some((byte, text)) = text.split_first() else { return false };
            *byte != b'/' && class_match(rest, *byte).is_some_and(|rest| wild_match(rest, text))
        }
        b'\\' => {
            let (literal, rest) = rest.split_first().unwrap_or((&0, rest));
            text.split_first().is_some_and(|(byte, text)| byte == literal && wild_match(rest, text))
        }
        literal => text.split_first().is_some_and(|(byte, text)| byte == literal && wild_match(rest, text)),
    }
}

/// Matches a byte with the class whose `[` was taken; gives what follows its `]`.
fn class_match(class: &[u8], byte: u8) -> Option<&[u8]> {
    let negated = matches!(class.first(), Some(b'!' | b'^'));
    let mut class = &class[usize::from(negated)..];
    let (mut found, mut previous, mut first) = (false, None, true);
    loop {
        let (mut next, mut rest) = class.split_first()?;
        if *next == b']' && !first {
            return (found != negated).then_some(rest);
        }
        first = false;
        if let (b'-', Some(low)) = (next, previous)
            && rest.first().is_some_and(|high| *high != b']')
        {
            (next, rest) = rest.split_first()?;
            if *next == b'\\' {
                (next, rest) = rest.split_first()?;
            }
            found |= (low..=*next).contains(&byte);
            previous = None;
        } else {
            if *next == b'\\' {
                (next, rest) = rest.split_first()?;
            }
            found |= *next == byte;
            previous = Some(*next);
        }
        class = rest;
    }
}

//! Two texts, line by line.

/// Lines that only the first has, marked `-`, and lines that only the second has, marked `+`; empty if there are none.
/// The place of a line does not count: what is compared here is a list.
pub(super) fn difference(expected: &str, found: &str) -> String {
    let only = |mark: &'static str, of: &str, not: &str| -> String {
        let missing = of.lines().filter(|line| !not.lines().any(|other| other == *line));
        missing.flat_map(|line| [mark, line, "\n"]).collect()
    };
    only("-", expected, found) + &only("+", found, expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_one_side_only_are_marked() {
        assert_eq!(difference("a\nb\nc\n", "a\nc\nd\n"), "-b\n+d\n");
        assert_eq!(difference("a\n", "a\n"), "");
    }
}

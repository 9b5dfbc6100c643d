//! The part of a configuration file that is baton's: between two marks, and nothing outside them.

fn marks(name: &str) -> [String; 2] {
    ["begin", "end"].map(|word| format!("# baton: {word} of backend {name}"))
}

/// The file with `text` between the marks of this backend: in place of what was there, or at the end.
///
/// # Errors
/// The marks are torn, or the file has such a backend outside of them.
pub fn placed(before: &str, name: &str, text: &str) -> Result<String, String> {
    let [begin, end] = marks(name);
    let lines: Vec<_> = before.lines().collect();
    let place = |mark: &str| lines.iter().position(|line| line.trim() == mark);
    let (head, tail) = match (place(&begin), place(&end)) {
        (Some(first), Some(last)) if first < last => lines.split_at(first),
        (None, None) => (lines.as_slice(), [].as_slice()),
        _ => {
            return Err(format!(
                "the lines \"{begin}\" and \"{end}\" must both stand there, in order"
            ));
        }
    };
    let tail = tail.iter().skip_while(|line| line.trim() != end).skip(1).copied();
    let outside: Vec<_> = head.iter().copied().chain(tail.clone()).collect();
    if outside.iter().any(|line| line.split_whitespace().eq(["backend", name])) {
        return Err(format!(
            "there is a backend {name} that baton has not written: remove it, or put it between the \
             lines \"{begin}\" and \"{end}\""
        ));
    }
    let own = [begin.as_str()].into_iter().chain(text.lines()).chain([end.as_str()]);
    let all: Vec<_> = head.iter().copied().chain(own).chain(tail).collect();
    Ok(all.join("\n") + "\n")
}

/// The lines that differ, each with `-` or `+` before it: all between the first and the last of them.
pub fn difference(before: &str, after: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    let same = |pair: &(&&str, &&str)| pair.0 == pair.1;
    let first = old.iter().zip(&new).take_while(same).count();
    let (old, new) = (old.split_at(first).1, new.split_at(first).1);
    let last = old.iter().rev().zip(new.iter().rev()).take_while(same).count();
    let kept = |lines: &[&str]| lines.len() - last;
    let gone = old.iter().take(kept(old)).map(|line| format!("-{line}"));
    let come = new.iter().take(kept(new)).map(|line| format!("+{line}"));
    gone.chain(come).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "global\n  maxconn 10\nfrontend f\n  default_backend web\n";

    #[test]
    fn it_is_added_at_the_end_and_then_replaced_in_its_place() {
        let first = placed(FILE, "web", "backend web\n  server a\n").unwrap();
        assert!(first.starts_with(FILE), "{first}");
        let more = format!("{first}listen stats\n");
        let second = placed(&more, "web", "backend web\n  server b\n").unwrap();
        assert_eq!(second, more.replace("server a", "server b"));
        assert_eq!(placed(&second, "web", "backend web\n  server b\n").unwrap(), second);
        assert_eq!(difference(&more, &second), "-  server a\n+  server b");
        assert_eq!(difference(&second, &second), "");
    }

    #[test]
    fn what_others_wrote_is_not_touched() {
        let theirs = format!("{FILE}backend web\n  server c\n");
        assert!(placed(&theirs, "web", "backend web\n").unwrap_err().contains("not written"));
        assert!(placed(&theirs, "shop", "backend shop\n").unwrap().starts_with(&theirs));
        let torn = format!("{FILE}# baton: begin of backend web\n");
        assert!(placed(&torn, "web", "backend web\n").is_err());
    }
}

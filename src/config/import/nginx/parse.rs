//! nginx's grammar: words, quotes, comments, `;` and blocks, with the line of every directive.
//!
//! Sans-io; `include` is somebody else's. Bounds: depth 32, 50 000 directives, 256 arguments each. Source:
//! `ngx_conf_read_token` in ngx_conf_file.c: a backslash escapes inside of words and quotes, `${` hides its brace, a quote in the
//! middle of a word is a letter. Blocks of other languages (`…_by_lua_block`) are stepped over by their braces.

use std::rc::Rc;

use super::super::report::Origin;

const DEPTH_MAX: usize = 32;
const DIRECTIVES_MAX: usize = 50_000;
const ARGUMENTS_MAX: usize = 256;

/// One directive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directive {
    pub(super) name: String,
    pub(super) args: Vec<String>,
    pub(super) origin: Origin,
    /// What stands in its braces; `None`: it ends with `;`.
    pub(super) block: Option<Vec<Directive>>,
}

/// Why a text is no configuration of nginx.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) line: u32,
    pub(super) message: String,
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    End,
    Open,
    Close,
}

struct Lexer<'t> {
    rest: std::iter::Peekable<std::str::Chars<'t>>,
    line: u32,
}

/// A directive that is not at its end yet.
struct Frame {
    head: Directive,
    inside: Vec<Directive>,
}

/// Reads a text.
pub(super) fn parse(text: &str, file: &Rc<str>) -> Result<Vec<Directive>, Mistake> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lexer = Lexer { rest: text.chars().peekable(), line: 1 };
    let mut stack: Vec<Frame> = Vec::new();
    let mut inside: Vec<Directive> = Vec::new();
    let mut words: Vec<(String, u32)> = Vec::new();
    let mut count = 0;
    loop {
        let token = lexer.token()?;
        let line = lexer.line;
        let wrong = |message: &str| Mistake { line, message: message.to_owned() };
        match token {
            Some(Token::Word(word)) => {
                if words.len() > ARGUMENTS_MAX {
                    return Err(wrong("a directive with too many words: is a `;` missing?"));
                }
                words.push((word, lexer.line));
                continue;
            }
            None if words.is_empty() && stack.is_empty() => return Ok(inside),
            None if words.is_empty() => return Err(wrong("a block is not closed: a `}` is missing")),
            None => return Err(wrong("the last directive has no end: a `;` is missing")),
            Some(Token::Close) if !words.is_empty() => return Err(wrong("a `;` is missing before this `}`")),
            Some(Token::Close) => match stack.pop() {
                None => return Err(wrong("this `}` closes nothing")),
                Some(Frame { mut head, inside: outer }) => {
                    head.block = Some(std::mem::replace(&mut inside, outer));
                    inside.push(head);
                    continue;
                }
            },
            Some(Token::End | Token::Open) if words.is_empty() => {
                return Err(wrong("a directive has no name"));
            }
            Some(Token::End | Token::Open) => {}
        }
        count += 1;
        if count > DIRECTIVES_MAX {
            return Err(wrong("too many directives"));
        }
        let mut head = directive(std::mem::take(&mut words), file);
        if token == Some(Token::End) {
            inside.push(head);
        } else if head.name.ends_with("_by_lua_block") {
            lexer.skip_block()?;
            head.block = Some(Vec::new());
            inside.push(head);
        } else if stack.len() >= DEPTH_MAX {
            return Err(wrong("blocks are nested too deep"));
        } else {
            stack.push(Frame { head, inside: std::mem::take(&mut inside) });
        }
    }
}

fn directive(words: Vec<(String, u32)>, file: &Rc<str>) -> Directive {
    let line = words.first().map_or(0, |(_, line)| *line);
    let mut words = words.into_iter().map(|(word, _)| word);
    let name = words.next().unwrap_or_default();
    Directive { name, args: words.collect(), origin: Origin { file: Rc::clone(file), line }, block: None }
}

impl Lexer<'_> {
    fn next(&mut self) -> Option<char> {
        let letter = self.rest.next();
        if letter == Some('\n') {
            self.line = self.line.saturating_add(1);
        }
        letter
    }

    fn token(&mut self) -> Result<Option<Token>, Mistake> {
        loop {
            match self.rest.peek() {
                None => return Ok(None),
                Some(letter) if letter.is_ascii_whitespace() => {
                    self.next();
                }
                Some('#') => while !matches!(self.next(), None | Some('\n')) {},
                Some(_) => break,
            }
        }
        Ok(Some(match self.rest.peek() {
            Some(';') => self.single(Token::End),
            Some('{') => self.single(Token::Open),
            Some('}') => self.single(Token::Close),
            Some(&quote @ ('"' | '\'')) => {
                self.next();
                Token::Word(self.quoted(quote)?)
            }
            _ => Token::Word(self.word()),
        }))
    }

    fn single(&mut self, token: Token) -> Token {
        self.next();
        token
    }

    fn quoted(&mut self, quote: char) -> Result<String, Mistake> {
        let line = self.line;
        let mut word = String::new();
        loop {
            match self.next() {
                None => return Err(Mistake { line, message: "a quote is not closed".to_owned() }),
                Some(letter) if letter == quote => break,
                Some('\\') => self.escaped(&mut word),
                Some(letter) => word.push(letter),
            }
        }
        match self.rest.peek() {
            None | Some(';' | '{' | ')') => Ok(word),
            Some(letter) if letter.is_ascii_whitespace() => Ok(word),
            Some(_) => {
                Err(Mistake { line: self.line, message: "a blank is missing behind a quote".to_owned() })
            }
        }
    }

    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some(&letter) = self.rest.peek() {
            let hidden = letter == '{' && word.ends_with('$');
            if letter.is_ascii_whitespace() || matches!(letter, ';' | '{') && !hidden {
                break;
            }
            self.next();
            match letter {
                '\\' => self.escaped(&mut word),
                _ => word.push(letter),
            }
        }
        word
    }

    /// What stands behind a backslash. Only quotes, backslashes and blanks lose it, as in nginx.
    fn escaped(&mut self, word: &mut String) {
        match self.next() {
            Some(letter @ ('"' | '\'' | '\\')) => word.push(letter),
            Some('t') => word.push('\t'),
            Some('r') => word.push('\r'),
            Some('n') => word.push('\n'),
            Some(letter) => word.extend(['\\', letter]),
            None => word.push('\\'),
        }
    }

    /// Steps over a block in another language, braces in its texts and comments included if they are in pairs.
    fn skip_block(&mut self) -> Result<(), Mistake> {
        let line = self.line;
        let mut depth = 1_usize;
        while depth > 0 {
            match self.next() {
                None => return Err(Mistake { line, message: "a block is not closed".to_owned() }),
                Some('{') => depth += 1,
                Some('}') => depth -= 1,
                Some(_) => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Directive>, Mistake> {
        parse(text, &"f".into())
    }

    #[test]
    fn words_blocks_and_lines() {
        let text = "# c\nworker_processes auto;\nhttp { # x\n  add_header A \"b \\\" ; {\" always;\n\
            location ~ ^/a\\.b$ { return 301 https://${host}x$request_uri; }\n}\n";
        let read = read(text).unwrap();
        assert_eq!((read[0].name.as_str(), read[0].origin.line), ("worker_processes", 2));
        let http = read[1].block.as_ref().unwrap();
        assert_eq!(http[0].args, ["A", "b \" ; {", "always"]);
        assert_eq!(http[0].origin.line, 4);
        assert_eq!(http[1].args, ["~", "^/a\\.b$"]);
        let location = http[1].block.as_ref().unwrap();
        assert_eq!(location[0].args, ["301", "https://${host}x$request_uri"]);
        assert_eq!(location[0].origin.line, 5);
    }

    #[test]
    fn blocks_of_lua_are_stepped_over() {
        let read = read("access_by_lua_block { local a = { b = '}' .. '{' }; return }\nroot /x;").unwrap();
        assert_eq!((read[0].name.as_str(), read[1].name.as_str()), ("access_by_lua_block", "root"));
        assert_eq!(read[1].origin.line, 2);
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        for (text, line, part) in [
            ("a b", 1, "`;` is missing"),
            ("a {\nb c\n}", 3, "`;` is missing before"),
            ("a {\n", 2, "not closed"),
            ("}\n", 1, "closes nothing"),
            (";", 1, "no name"),
            ("{ }", 1, "no name"),
            ("a \"b", 1, "quote is not closed"),
            ("a \"b\"c;", 1, "blank is missing"),
            ("x_by_lua_block { {", 1, "not closed"),
        ] {
            let mistake = read(text).unwrap_err();
            assert!(mistake.message.contains(part), "{text}: {mistake:?}");
            assert_eq!(mistake.line, line, "{text}");
        }
        assert!(read(&"a { ".repeat(100)).unwrap_err().message.contains("too deep"));
        assert!(read(&"a;".repeat(60_000)).unwrap_err().message.contains("too many directives"));
        assert!(read(&"a ".repeat(60_000)).unwrap_err().message.contains("too many words"));
        assert_eq!(read("").unwrap(), []);
    }
}

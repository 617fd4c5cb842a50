//! The classes a block of text can be, their names, and the fence tags that mean them.
//!
//! A class is program code (LLM Guard's 26 languages, Shell, SQL and a few more, TypeScript counts as JavaScript) or
//! something else that stands in fences: prose, program output, data, markup, style sheets, maths, container recipes.
//! The second kind is never "code" unless an operator names it. XML counts as HTML, TOML and INI as YAML.
//! This file is shared with the trainer and uses nothing of the crate. The order of [`CLASSES`] is part of the model.

use std::collections::HashMap;
use std::sync::OnceLock;

/// How many classes there are: the width of a row of the model.
pub const CLASS_COUNT: usize = 40;

/// Classes below this index are program code.
pub const PROGRAM_END: usize = 32;

/// Code in a language that has no class of its own.
pub const OTHER_CODE: usize = 31;

/// Names of the classes, LLM Guard's spelling where it has one.
pub const CLASSES: [&str; CLASS_COUNT] = [
    "ARM Assembly",
    "AppleScript",
    "C",
    "C#",
    "C++",
    "COBOL",
    "Erlang",
    "Fortran",
    "Go",
    "Java",
    "JavaScript",
    "Kotlin",
    "Lua",
    "Mathematica/Wolfram Language",
    "PHP",
    "Pascal",
    "Perl",
    "PowerShell",
    "Python",
    "R",
    "Ruby",
    "Rust",
    "Scala",
    "Swift",
    "Visual Basic .NET",
    "jq",
    "Shell",
    "SQL",
    "Haskell",
    "Lisp",
    "MATLAB",
    "code",
    "prose",
    "text",
    "JSON",
    "YAML",
    "HTML",
    "CSS",
    "LaTeX",
    "Dockerfile",
];

/// What a fence tag says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// The block is of this class.
    Class(usize),
    /// Nothing: no tag, an unknown one, or one that several classes share.
    Silent,
}

/// The class that an operator's `name` means, by a class's name or a fence tag, in any case.
#[must_use]
pub fn by_name(name: &str) -> Option<usize> {
    let name = name.trim();
    if let Some(class) = CLASSES.iter().position(|class| class.eq_ignore_ascii_case(name)) {
        return Some(class);
    }
    match by_tag(&name.to_ascii_lowercase()) {
        Tag::Class(class) => Some(class),
        Tag::Silent => None,
    }
}

/// What `tag`, in lower case, says.
#[must_use]
pub fn by_tag(tag: &str) -> Tag {
    static TAGS: OnceLock<HashMap<&str, usize>> = OnceLock::new();
    let pairs = || ALIASES.iter().flat_map(|(class, tags)| tags.split(' ').map(|tag| (tag, *class)));
    let tags = TAGS.get_or_init(|| pairs().collect());
    tags.get(tag).map_or(Tag::Silent, |class| Tag::Class(*class))
}

/// Fence tags by class. `asm`, `code`, `console` and their like are left out: the text itself must say what it is.
const ALIASES: [(usize, &str); CLASS_COUNT] = [
    (0, "armasm arm arm64 aarch64 armv7 armv8 arm-assembly thumb"),
    (1, "applescript osascript scpt"),
    (2, "c h c99 c11 c17 arduino ino"),
    (3, "c# csharp cs c-sharp dotnet csx"),
    (4, "c++ cpp cxx cc hpp hxx hh cplusplus c++11 c++14 c++17 c++20 cuda cu"),
    (5, "cobol cob cbl cpy"),
    (6, "erlang erl hrl escript"),
    (7, "fortran f90 f95 f03 f08 f77 f for fortran90 fortran77 fortran-free-form"),
    (8, "go golang"),
    (9, "java jav jsp"),
    (
        10,
        "javascript js jsx mjs cjs node nodejs node.js ts tsx typescript mts cts ecmascript es6 vue \
         svelte react jquery",
    ),
    (11, "kotlin kt kts"),
    (12, "lua luau"),
    (13, "mathematica wolfram wl nb wolframlanguage wolfram-language wls"),
    (14, "php php3 php4 php5 php7 php8 phtml laravel"),
    (15, "pascal pas delphi objectpascal object-pascal dpr freepascal lpr"),
    (16, "perl pl pm perl5 raku"),
    (17, "powershell pwsh ps1 ps posh psm1 psd1"),
    (
        18,
        "python py python3 py3 python2 py2 pyi ipython ipython3 pycon pyw sage cython python-repl \
         jupyter",
    ),
    (19, "r rscript rlang rmd splus"),
    (20, "ruby rb irb rake gemfile rails jruby"),
    (21, "rust rs"),
    (22, "scala sc sbt scala3"),
    (23, "swift swiftui"),
    (24, "vb.net vbnet vb visualbasic visual-basic vba vbs vbscript basic visual visual-basic-.net"),
    (25, "jq jqlang"),
    (
        26,
        "shell sh bash zsh ksh fish csh tcsh shellscript shell-script bat batch cmd dos ash awk makefile \
         make",
    ),
    (
        27,
        "sql mysql postgresql postgres psql plsql pl/sql tsql t-sql sqlite mssql plpgsql hql sparksql \
         bigquery",
    ),
    (28, "haskell hs lhs purescript elm"),
    (29, "lisp common-lisp clojure clj cljs scheme scm racket rkt elisp emacs-lisp el edn"),
    (30, "matlab octave m"),
    (
        31,
        "dart elixir ex exs ocaml ml f# fsharp julia jl groovy gradle objective-c objectivec objc zig \
         nim d crystal cr solidity sol glsl hlsl metal wgsl verilog systemverilog sv v vhdl nasm masm \
         x86asm gas mips riscv tcl prolog ada sas stata gdscript gd forth smalltalk abap apex \
         coffeescript coffee hack haxe vala actionscript autohotkey ahk llvm wasm wat move vyper cairo \
         qsharp scratch pseudocode reason rescript idris agda lean coq odin gleam mojo cypher graphql \
         sparql kql promql gams cds terraform hcl tf nix puppet starlark bazel cmake",
    ),
    (32, "prose markdown md mdx rst asciidoc adoc email letter quote poem lyrics story"),
    (
        33,
        "text txt plaintext plain output console-output stdout log logs csv tsv table diff patch tree \
         ascii ascii-art mermaid plantuml dot graphviz http traceback error result results gherkin \
         feature regex none",
    ),
    (34, "json jsonc json5 jsonl ndjson geojson jsonld"),
    (
        35,
        "yaml yml toml ini properties conf config cfg env dotenv editorconfig nginx apache systemd \
         service",
    ),
    (36, "html xml xhtml htm svg xaml xsl xslt html5 rss plist wsdl xsd markup"),
    (37, "css scss sass less stylus postcss"),
    (38, "latex tex math maths katex mathjax bibtex bib asciimath"),
    (39, "dockerfile docker containerfile"),
];

//! A Rust file as rules look at it: its functions with their lines, its tokens, and which of its
//! lines are tests.

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Item};

pub struct Function {
    pub name: String,
    pub line: usize,
    pub lines: usize,
}

/// A token that a rule may look for; brackets are opened up.
pub struct Word {
    pub text: String,
    pub line: usize,
}

pub struct Source {
    pub lines: usize,
    pub functions: Vec<Function>,
    words: Vec<Word>,
    /// First and last lines of what is compiled for tests only.
    tests: Vec<(usize, usize)>,
}

impl Source {
    pub fn read(file: &str, text: &str) -> Source {
        let parsed = syn::parse_file(text).unwrap_or_else(|error| panic!("{file}: {error}"));
        let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{file}: {error}"));
        let mut words = Vec::new();
        open(tokens, &mut words);
        let mut walk = Walk::default();
        walk.visit_file(&parsed);
        Source { lines: text.lines().count(), functions: walk.functions, words, tests: walk.tests }
    }

    /// Lines that are not part of tests.
    pub fn lines_without_tests(&self) -> usize {
        let tests: usize = self.tests.iter().map(|(first, last)| last - first + 1).sum();
        self.lines.saturating_sub(tests)
    }

    /// The tokens outside tests; doc comments are among them, as attributes.
    pub fn words_without_tests(&self) -> Vec<&Word> {
        let tested = |line| self.tests.iter().any(|(first, last)| (*first..=*last).contains(&line));
        self.words.iter().filter(|word| !tested(word.line)).collect()
    }
}

fn open(tokens: TokenStream, words: &mut Vec<Word>) {
    for token in tokens {
        let line = token.span().start().line;
        match token {
            TokenTree::Group(group) => {
                let open_with = match group.delimiter() {
                    proc_macro2::Delimiter::Parenthesis => "(",
                    proc_macro2::Delimiter::Brace => "{",
                    proc_macro2::Delimiter::Bracket => "[",
                    proc_macro2::Delimiter::None => "",
                };
                words.push(Word { text: open_with.to_owned(), line });
                open(group.stream(), words);
            }
            other => words.push(Word { text: other.to_string(), line }),
        }
    }
}

#[derive(Default)]
struct Walk {
    functions: Vec<Function>,
    tests: Vec<(usize, usize)>,
}

impl Walk {
    fn function(&mut self, name: &syn::Ident, first: usize, last: usize) {
        let lines = last - first + 1;
        self.functions.push(Function { name: name.to_string(), line: first, lines });
    }
}

impl<'ast> Visit<'ast> for Walk {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Mod(item) => item.attrs.as_slice(),
            Item::Fn(item) => item.attrs.as_slice(),
            Item::Impl(item) => item.attrs.as_slice(),
            Item::Use(item) => item.attrs.as_slice(),
            Item::Struct(item) => item.attrs.as_slice(),
            Item::Const(item) => item.attrs.as_slice(),
            _ => &[],
        };
        if attributes.iter().any(is_for_tests) {
            let span = item.span();
            self.tests.push((span.start().line, span.end().line));
        }
        visit::visit_item(self, item);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        let first = item.sig.span().start().line;
        self.function(&item.sig.ident, first, item.block.span().end().line);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        let first = item.sig.span().start().line;
        self.function(&item.sig.ident, first, item.block.span().end().line);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            let first = item.sig.span().start().line;
            self.function(&item.sig.ident, first, block.span().end().line);
        }
        visit::visit_trait_item_fn(self, item);
    }
}

fn is_for_tests(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
}

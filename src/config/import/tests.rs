use super::*;

struct Nothing;

impl Files for Nothing {
    fn read(&self, _: &Path) -> Result<String, String> {
        Err("is not there".to_owned())
    }
    fn glob(&self, _: &Path) -> Vec<PathBuf> {
        Vec::new()
    }
    fn variable(&self, _: &str) -> Option<String> {
        None
    }
}

#[test]
fn a_file_that_is_not_there_is_told() {
    let sources = Sources { litellm: Some("a.yaml".into()), ..Sources::default() };
    assert_eq!(import(&sources, &Nothing).unwrap_err().to_string(), "a.yaml: is not there");
}

//! An API server of a few answers, and the plugin that asks it.

use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub method: String,
    /// Without what follows the question mark.
    pub path: String,
    pub query: String,
    pub body: Value,
}

/// What is answered: a code and a text.
pub(crate) type Answer = (u16, String);

/// A cluster that answers on a free port for as long as the test runs.
pub(crate) struct Server {
    folder: tempfile::TempDir,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub(crate) fn new(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "contexts": [{"name": "here",
                "context": {"cluster": "here", "user": "me", "namespace": "ml"}}],
            "clusters": [{"name": "here", "cluster": {"server": server}}],
            "users": [{"name": "me", "user": {}}],
        });
        fs::write(folder.path().join("kubeconfig"), config.to_string()).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, noted) = (Arc::new(answer), Arc::clone(&asked));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (answer, noted) = (Arc::clone(&answer), Arc::clone(&noted));
                thread::spawn(move || serve(&stream, &*answer, &noted));
            }
        });
        Self { folder, asked }
    }

    /// Runs the plugin in a folder of its own.
    pub(crate) fn run(&self, line: &str) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-island"));
        command.args(line.split_whitespace()).arg("--kubeconfig=kubeconfig");
        command.current_dir(self.folder.path());
        for proxy in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env_remove(proxy).env_remove(proxy.to_lowercase());
        }
        Said::of(&command.output().unwrap())
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// What was asked so far of paths that end so.
    pub(crate) fn asked(&self, method: &str, end: &str) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap();
        let meant = |it: &&Asked| it.method == method && it.path.ends_with(end);
        asked.iter().filter(meant).cloned().collect()
    }
}

/// What the plugin said.
#[derive(Debug)]
pub(crate) struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// What it said where it did what was asked.
    pub(crate) fn done(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// The one sentence of an error that ends it with `code`.
    pub(crate) fn error(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.out, "", "{self:?}");
        let errors: Vec<&str> = self.err.lines().filter(|it| it.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{self:?}");
        errors[0].to_owned()
    }
}

/// Answers one connection after the other's requests.
fn serve(stream: &TcpStream, answer: &dyn Fn(&Asked) -> Answer, noted: &Mutex<Vec<Asked>>) {
    let mut reader = BufReader::new(stream);
    while let Some(asked) = read(&mut reader) {
        let (code, text) = answer(&asked);
        noted.lock().unwrap().push(asked);
        let head = format!(
            "HTTP/1.1 {code} Said\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            text.len()
        );
        let mut writer = stream;
        if writer.write_all((head + &text).as_bytes()).is_err() {
            return;
        }
    }
}

fn read(reader: &mut impl BufRead) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    Some(Asked { method, path: path.to_owned(), query: query.to_owned(), body })
}

/// What an API server says of a call that does not go.
pub(crate) fn refused(code: u16, reason: &str, message: &str, name: &str) -> Answer {
    let mut status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "reason": reason, "message": message,
    });
    if !name.is_empty() {
        status["details"] = json!({"name": name});
    }
    (code, status.to_string())
}

pub(crate) fn not_found(name: &str) -> Answer {
    refused(404, "NotFound", &format!("\"{name}\" not found"), name)
}

pub(crate) fn found(object: &Value) -> Answer {
    (200, object.to_string())
}

/// A page of a list, and how to ask for the next.
pub(crate) fn page(items: &[Value], next: &str) -> Answer {
    let list = json!({
        "kind": "List", "apiVersion": "v1", "metadata": {"continue": next}, "items": items,
    });
    (200, list.to_string())
}

pub(crate) fn list(items: &[Value]) -> Answer {
    page(items, "")
}

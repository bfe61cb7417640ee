//! Repositories behind a web server that speaks TLS: Debian's nginx, and git's own `http-backend` behind that.

use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// `somebody` and what git sends with a token, each with the password `secret`.
const PASSWORDS: &str = "somebody:{PLAIN}secret\nx-access-token:{PLAIN}secret\n";

/// A web server on the loopback. What is below `/private/` wants a password, and all its certificate is signed by an
/// authority that nobody knows. It ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    nginx: Child,
    git: Child,
    port: u16,
    directory: tempfile::TempDir,
}

impl Server {
    /// Serves the repositories below a directory, and waits until it answers.
    ///
    /// # Panics
    /// If Debian's packages `nginx-light`, `fcgiwrap` and `openssl` are not installed.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn start(repositories: &Path) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let place = directory.path();
        certify(place)?;
        fs::write(place.join("passwords"), PASSWORDS)?;
        let mut git = child(
            "fcgiwrap",
            place,
            &["-s", &format!("unix:{}/git", place.display())],
        )?;
        // The port may be taken again in between; then another is tried.
        for _ in 0..5 {
            let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
            fs::write(
                place.join("nginx.conf"),
                configuration(place, repositories, port),
            )?;
            let prefix = format!("{}/", place.display());
            let arguments = ["-p", &prefix, "-c", "nginx.conf", "-e", "errors"];
            let mut nginx = child("nginx", place, &arguments)?;
            while nginx.try_wait()?.is_none() && git.try_wait()?.is_none() {
                let is_up = TcpStream::connect(("127.0.0.1", port)).is_ok();
                if is_up && UnixStream::connect(place.join("git")).is_ok() {
                    return Ok(Self {
                        nginx,
                        git,
                        port,
                        directory,
                    });
                }
                std::thread::yield_now();
            }
        }
        drop(git.kill());
        drop(git.wait());
        Err(io::Error::other("`nginx` does not answer"))
    }

    /// `127.0.0.1:PORT`
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The address of what is at a path, which begins with `/`.
    pub fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.host())
    }

    /// The certificate of the authority that signed the server's.
    pub fn authority(&self) -> PathBuf {
        self.directory.path().join("authority.pem")
    }

    /// What was asked of it so far: the path, the status, and who asked, `-` where that was nobody.
    ///
    /// # Errors
    /// If its log cannot be read.
    pub fn asked(&self) -> io::Result<Vec<String>> {
        let log = fs::read_to_string(self.directory.path().join("log"))?;
        Ok(log.lines().map(str::to_owned).collect())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for process in [&mut self.nginx, &mut self.git] {
            drop(process.kill());
            drop(process.wait());
        }
    }
}

fn child(program: &str, directory: &Path, arguments: &[&str]) -> io::Result<Child> {
    let path = Path::new("/usr/sbin").join(program);
    assert!(
        path.is_file(),
        "no {program} here: `testdata/test` installs it"
    );
    let log = fs::File::create(directory.join(format!("{program}.log")))?;
    Command::new(path)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
}

fn configuration(directory: &Path, repositories: &Path, port: u16) -> String {
    let root = repositories.display();
    let socket = directory.join("git").display().to_string();
    format!(
        "daemon off;\nmaster_process off;\npid pid;\nevents {{}}\n\
         http {{\n\
         log_format asked '$uri $status $remote_user';\naccess_log log asked;\n\
         client_body_temp_path body;\nfastcgi_temp_path fastcgi;\nproxy_temp_path proxy;\nuwsgi_temp_path uwsgi;\n\
         scgi_temp_path scgi;\nclient_max_body_size 0;\n\
         server {{\n\
         listen 127.0.0.1:{port} ssl;\nssl_certificate server.pem;\nssl_certificate_key server.key;\n\
         location ~ /(info|git-upload-pack|HEAD|objects) {{\n\
         set $who off;\nif ($uri ~ ^/private/) {{ set $who private; }}\n\
         auth_basic $who;\nauth_basic_user_file {passwords};\n\
         fastcgi_pass unix:{socket};\n\
         fastcgi_param SCRIPT_FILENAME /usr/lib/git-core/git-http-backend;\n\
         fastcgi_param GIT_PROJECT_ROOT {root};\nfastcgi_param GIT_HTTP_EXPORT_ALL 1;\n\
         fastcgi_param PATH_INFO $uri;\nfastcgi_param QUERY_STRING $query_string;\n\
         fastcgi_param REQUEST_METHOD $request_method;\nfastcgi_param CONTENT_TYPE $content_type;\n\
         fastcgi_param CONTENT_LENGTH $content_length;\nfastcgi_param REMOTE_USER $remote_user;\n\
         fastcgi_param HTTP_CONTENT_ENCODING $http_content_encoding;\nfastcgi_param GIT_PROTOCOL $http_git_protocol;\n\
         }}\n\
         location / {{ root {root}; }}\n\
         }}\n}}\n",
        passwords = directory.join("passwords").display(),
    )
}

/// Makes an authority, and a certificate of its for the loopback.
fn certify(directory: &Path) -> io::Result<()> {
    let key = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ];
    let authority = [
        "-subj",
        "/CN=An authority of a test",
        "-keyout",
        "authority.key",
        "-out",
        "authority.pem",
    ];
    let server = [
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=IP:127.0.0.1,DNS:localhost",
        "-addext",
        "basicConstraints=CA:FALSE",
        "-CA",
        "authority.pem",
        "-CAkey",
        "authority.key",
        "-keyout",
        "server.key",
        "-out",
        "server.pem",
    ];
    for options in [&authority[..], &server] {
        let mut openssl = Command::new("openssl");
        openssl
            .current_dir(directory)
            .args(["req", "-x509", "-days", "30"]);
        let output = openssl.args(key).args(options).output()?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(io::Error::other(format!("openssl: {words}")));
        }
    }
    Ok(())
}

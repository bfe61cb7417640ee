//! ADD of what is elsewhere: files of the web and repositories.

use kit::repository::{Daemon, Repository};
use kit::web::{Page, Web};

use super::{builds::verdicts, rbuild};

#[test]
fn files_and_repositories_are_added_once_and_again_only_when_they_change_as_root() {
    let rbuild = rbuild();
    let web = Web::start().unwrap();
    web.put("/file", Page::new("from the web\n").etag("\"1\""));
    let served = rbuild.home().join("served");
    let repository = Repository::create(&served.join("project.git")).unwrap();
    repository.write("README", "of the project\n").unwrap();
    repository.commit("one").unwrap();
    let daemon = Daemon::start(&served).unwrap();
    let from_web = format!("ADD {} /x", web.url("/file"));
    let from_git = format!("ADD {} /src", daemon.url("project.git"));
    let dockerfile =
        format!("FROM busybox\n{from_web}\n{from_git}\nCMD [\"cat\", \"/x\", \"/src/README\"]\n");
    rbuild.write("Dockerfile", dockerfile);
    let build = || {
        let log = rbuild
            .run(["build", "--progress=plain", "-t", "remote", "."])
            .success()
            .stderr;
        verdicts(&log)
    };
    let shown = || rbuild.run(["run", "--rm", "remote"]).success().stdout;
    let both = vec![from_web, from_git.clone()];
    let none = Vec::<String>::new();

    assert_eq!(build(), (none.clone(), both.clone()));
    assert_eq!(shown(), "from the web\nof the project\n");

    assert_eq!(build(), (both.clone(), none.clone()));
    let statuses: Vec<u16> = web.asked().iter().map(|it| it.status).collect();
    assert_eq!(statuses, [200, 304]);

    repository.write("README", "moved on\n").unwrap();
    repository.commit("two").unwrap();
    assert_eq!(build(), (both[..1].to_vec(), vec![from_git]));
    assert_eq!(shown(), "from the web\nmoved on\n");

    web.put("/file", Page::new("another\n").etag("\"2\""));
    assert_eq!(build(), (none, both));
    assert_eq!(shown(), "another\nmoved on\n");
}

#[test]
fn what_a_server_does_not_have_is_told_at_its_line_as_root() {
    let rbuild = rbuild();
    let web = Web::start().unwrap();
    let url = web.url("/missing");
    rbuild.write("Dockerfile", format!("FROM busybox\nADD {url} /x\n"));
    let log = rbuild.run(["build", "."]).failure(1).stderr;
    assert!(log.contains(&format!("2 | >>> ADD {url} /x")), "{log}");
    let reason = format!("failed to load {url}: invalid response status 404");
    assert!(log.contains(&reason), "{log}");
}

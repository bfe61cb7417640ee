//! Images on their way through other programs' hands: what is unpacked at the end is what was built, file by file.

use kit::docker_registry::{Access, Server};
use kit::rbuild::{Rbuild, run};

use super::rbuild;

/// Everything that a layer can say.
const DOCKERFILE: &str = "\
FROM busybox
RUN mkdir -p /d/e /gone/below /kept && echo one > /d/one && echo two > /d/e/two && ln -s one /d/link && ln /d/one /d/hard
RUN rm /d/one && rm -r /d/e /gone && mkdir /d/e && echo three > /d/e/three && chown 7:8 /d/e/three && chmod 4711 /d/e/three
RUN mknod /d/null c 1 3 && mkfifo /d/fifo && ln -s /nowhere /d/dangling && touch -h -d @1000000 /d/dangling && touch -d @1 /d/e
RUN mkdir -m 1777 /d/sticky && truncate -s 3000000 /d/sparse && echo end >> /d/sparse && chown 123456:654321 /d/sticky
RUN n=$(printf 'n%.0s' $(seq 200)); mkdir -p /d/$n/$n && echo long > /d/$n/$n/$n && echo ä > \"/d/ä ö\"
COPY --chmod=640 marked /d/marked
";

/// Prints all that there is below a directory: types, modes, owners, times, links, contents and attributes.
const LIST: &str = r#"
import hashlib, os, stat, sys
root = sys.argv[1]
inodes = {}
for directory, names, files in sorted(os.walk(root)):
    for name in sorted(names + files):
        path = os.path.join(directory, name)
        it = os.lstat(path)
        shown = os.path.relpath(path, root)
        first = inodes.setdefault(it.st_ino, shown)
        line = [shown, oct(it.st_mode), f"{it.st_uid}:{it.st_gid}", str(int(it.st_mtime)), first]
        if stat.S_ISLNK(it.st_mode):
            line.append(os.readlink(path))
        if stat.S_ISREG(it.st_mode):
            line.append(hashlib.sha256(open(path, "rb").read()).hexdigest())
            line += [f"{key}={os.getxattr(path, key)}" for key in sorted(os.listxattr(path))]
        if stat.S_ISCHR(it.st_mode):
            line.append(f"{os.major(it.st_rdev)},{os.minor(it.st_rdev)}")
        print(" ".join(line))
"#;

/// Ways of the image `$name`, which is also in `saved.tar`, to the directory `$tree`; `$at` is a registry.
const WAYS: &[&str] = &[
    "skopeo copy -q oci-archive:saved.tar oci:layout:v1 && umoci unpack --image layout:v1 bundle && mv bundle/rootfs $tree",
    "rbuild build -q -t $name -o type=oci,dest=layout,tar=false,compression=gzip . && umoci unpack --image layout:v1 bundle && mv bundle/rootfs $tree",
    "rbuild tag $name $at/app:v1 && rbuild push -q $at/app:v1 && skopeo copy -q --src-tls-verify=false docker://$at/app:v1 oci:layout:v1 && umoci unpack --image layout:v1 bundle && mv bundle/rootfs $tree",
    "skopeo copy -q docker-archive:saved.tar docker-archive:theirs.tar:theirs:v1 && rbuild load -q -i theirs.tar && name=theirs:v1 && unpack",
    "skopeo copy -q oci-archive:saved.tar oci:layout:v1 && tar -C layout -cf theirs.tar . && rbuild rmi $name && id=$(rbuild load -i theirs.tar) && name=theirs:v2 && rbuild tag ${id##* } $name && unpack",
    "skopeo copy -q --dest-tls-verify=false --format v2s2 oci-archive:saved.tar docker://$at/v2s2:v1 && name=$at/v2s2:v1 && unpack",
    "skopeo copy -q --dest-tls-verify=false --dest-compress-format zstd docker-archive:saved.tar docker://$at/zstd:v1 && name=$at/zstd:v1 && unpack",
    "rbuild build -q -t $name -o type=registry,name=$at/pushed:v1,compression=zstd . && rbuild rmi $name && name=$at/pushed:v1 && RBUILD_ROOT=$PWD/other && export RBUILD_ROOT && unpack",
    "podman load -q -i saved.tar && podman save -q --format oci-archive -o theirs.tar $name && rbuild rmi $name && rbuild load -q -i theirs.tar && unpack",
    "podman load -q -i saved.tar && podman save -q --format docker-archive -o theirs.tar $name && rbuild rmi $name && rbuild load -q -i theirs.tar && unpack",
];

/// What the lines above may use.
const BEFORE: &str = r#"
podman() { command podman --root $PWD/s --runroot $HOME/r --storage-driver vfs "$@"; }
unpack() {
    mkdir from && echo "FROM $name" > from/Dockerfile &&
        mkdir $tree && rbuild build -q -o type=tar,dest=from.tar from &&
        tar -xp --xattrs --xattrs-include='*' --numeric-owner -C $tree -f from.tar
}
"#;

fn listed(rbuild: &Rbuild, line: &str) -> String {
    let list =
        format!("{BEFORE}\n{{ {line}; }} >&2 || exit 1\nexec /usr/bin/python3 -c \"$list\" $tree");
    run(rbuild.shell(&list).env("list", LIST)).success().stdout
}

#[test]
fn what_is_unpacked_behind_other_programs_is_what_was_built_as_root() {
    let server = Server::start(Access::Everybody);
    let rbuild = rbuild();
    rbuild.write("Dockerfile", DOCKERFILE);
    rbuild.write("marked", "marked");
    let mark =
        "exec /usr/bin/python3 -c 'import os; os.setxattr(\"marked\", \"user.note\", b\"a\\nb\")'";
    run(&mut rbuild.shell(mark)).success();
    let words = ["build", "-q", "-t", "example.com/app:v1", "-o"];
    rbuild
        .run(words.iter().chain(&["type=docker,dest=saved.tar", "."]))
        .success();
    let variables = format!("name=example.com/app:v1 at={}", server.address());
    let built = listed(&rbuild, &format!("{variables}; tree=built; unpack"));
    for expected in [
        "d/e/three 0o104711 7:8",
        "d/fifo",
        "1,3",
        "user.note=b'a\\nb'",
        "d/hard",
    ] {
        assert!(built.contains(expected), "{expected}\n{built}");
    }
    assert!(!built.contains("\ngone"), "{built}");
    for (number, way) in WAYS.iter().enumerate() {
        let place = format!(
            "mkdir way{number}; cp -a Dockerfile marked saved.tar way{number}; cd way{number}"
        );
        run(&mut rbuild.shell("rbuild load -q -i saved.tar")).success();
        let arrived = listed(&rbuild, &format!("{variables} tree=tree; {place}; {way}"));
        assert_eq!(arrived, built, "{way}");
    }
}

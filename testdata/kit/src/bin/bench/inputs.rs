//! What the scenarios build from, made on the spot and the same every time.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::Path,
};

/// Files in one directory of a tree.
const PER_DIRECTORY: usize = 100;

/// Writes `count` files of about 4 KiB, a hundred to a directory.
pub(crate) fn write_tree(root: &Path, count: usize) -> io::Result<()> {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    for directory in 0..count.div_ceil(PER_DIRECTORY) {
        let path = root.join(format!("d{directory:04}"));
        fs::create_dir_all(&path)?;
        for file in 0..PER_DIRECTORY.min(count - directory * PER_DIRECTORY) {
            let size = 1024 + usize::try_from(noise.next() % 6144).unwrap_or_default();
            fs::write(path.join(format!("f{file:02}.c")), noise.text(size))?;
        }
    }
    Ok(())
}

/// A Dockerfile of `count` instructions of the usual kinds, whose variables change on the way.
pub(crate) fn long_dockerfile(base: &str, count: usize) -> String {
    let instruction = |number: usize| match number % 10 {
        0 => format!("ENV KEY{}=value-{number}", number % 100),
        1 => format!("LABEL label{}=\"${{KEY10:-none}} {number}\"", number % 1000),
        2 => format!("WORKDIR /srv/{number}"),
        3 => format!("COPY directory/file{number} ./${{KEY10}}/"),
        4 => format!("COPY <<EOF /etc/file{number}\n$KEY10\nEOF"),
        _ => format!("RUN --mount=type=cache,target=/cache echo {number} \\\n    && true"),
    };
    // Set before it is used: a check that has something to say ends like one that failed.
    let mut text = format!("FROM {base}\nENV KEY10=first\n");
    for number in 0..count {
        text.push_str(&instruction(number));
        text.push('\n');
    }
    text
}

/// Writes a file of `mebibytes`, half of it noise and half of it text that compresses.
pub(crate) fn write_file(path: &Path, mebibytes: usize) -> io::Result<()> {
    let mut noise = Noise(0x2545_f491_4f6c_dd1d);
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    for _ in 0..mebibytes * 8 {
        let random: Vec<u8> = (0..8192).flat_map(|_| noise.next().to_le_bytes()).collect();
        out.write_all(&random)?;
        out.write_all(&noise.text(64 << 10))?;
    }
    out.flush()
}

/// Makes a file another than all that were stamped with something else, as long as it was.
pub(crate) fn stamp(path: &Path, with: &str) -> io::Result<()> {
    let mut file = File::options().write(true).open(path)?;
    file.write_all(with.as_bytes())
}

/// A small generator of numbers that look random.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// `size` bytes of words in lines, as compressible as source code.
    fn text(&mut self, size: usize) -> Vec<u8> {
        const WORDS: [&str; 16] = [
            "return ", "static ", "int ", "value", "length", " = ", "(", ");\n", "if (", ") {\n",
            "}\n", "buffer", "->", "next", "0x1f, ", "/* ",
        ];
        let mut text = Vec::with_capacity(size + 16);
        while text.len() < size {
            let mut choices = self.next();
            for _ in 0..16 {
                text.extend_from_slice(
                    WORDS[usize::try_from(choices & 15).unwrap_or_default()].as_bytes(),
                );
                choices >>= 4;
            }
        }
        text.truncate(size);
        text
    }
}

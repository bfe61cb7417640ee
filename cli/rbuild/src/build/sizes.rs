//! `build --size-report`: what each step added to the image.

use engine::{ImageSize, LayerSize};
use serde_json::{Value, json};
use snapshot::Count;

use crate::args::ListFormat;
use crate::fault::Fault;
use crate::human;
use crate::output::print;
use crate::progress::terminal::say;
use crate::table::align;

/// Says how large the images are: to people on standard error, to programs on standard output.
pub(super) fn report(sizes: &[ImageSize], format: Option<ListFormat>) -> Result<(), Fault> {
    match format {
        None => {}
        Some(ListFormat::Table) => {
            for size in sizes {
                let title = match sizes.len() {
                    1 => String::new(),
                    _ => format!("{}\n", size.platform),
                };
                say(&format!("\n{title}{}", table(size)));
            }
        }
        Some(ListFormat::Json) => {
            let all: Vec<Value> = sizes.iter().map(document).collect();
            print(&format!("{}\n", Value::from(all)))?;
        }
    }
    Ok(())
}

fn table(size: &ImageSize) -> String {
    let mut lines = vec!["SIZE\tADDED\tCHANGED\tREMOVED\tWASTED\tSTEP".to_owned()];
    let (layers, bytes) = size.base;
    if layers > 0 {
        let plural = if layers == 1 { "" } else { "s" };
        let base = format!("the base image, {layers} layer{plural}");
        lines.push(format!("{}\t\t\t\t\t{base}", human::size(bytes)));
    }
    for layer in &size.layers {
        let effect = &layer.effect;
        let wasted = match effect.wasted {
            0 => String::new(),
            wasted => human::size(wasted),
        };
        lines.push(format!(
            "{}\t{}\t{}\t{}\t{wasted}\t{}",
            human::size(layer.bytes),
            counted(effect.added),
            counted(effect.changed),
            counted(effect.removed),
            layer.step
        ));
    }
    let (total, wasted) = (size.total(), size.wasted());
    let share = match total {
        0 => 0.0,
        total => wasted as f64 * 100.0 / total as f64,
    };
    let wasted = human::size(wasted);
    let total = human::size(total);
    format!(
        "{}{total} in all, {wasted} of it wasted ({share:.1}%)\n",
        align(&lines)
    )
}

/// `3 files`; nothing where there are none.
fn counted(count: Count) -> String {
    match count.files {
        0 => String::new(),
        1 => "1 file".to_owned(),
        files => format!("{files} files"),
    }
}

fn document(size: &ImageSize) -> Value {
    json!({
        "platform": size.platform.to_string(),
        "total": size.total(),
        "wasted": size.wasted(),
        "base": { "layers": size.base.0, "size": size.base.1 },
        "layers": size.layers.iter().map(layer).collect::<Vec<_>>(),
    })
}

fn layer(layer: &LayerSize) -> Value {
    let count = |it: Count| json!({ "files": it.files, "bytes": it.bytes });
    json!({
        "step": layer.step,
        "size": layer.bytes,
        "added": count(layer.effect.added),
        "changed": count(layer.effect.changed),
        "removed": count(layer.effect.removed),
        "wasted": layer.effect.wasted,
    })
}

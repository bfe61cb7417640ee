//! One build for several platforms: what each comes to, all in one graph.

use std::collections::HashMap;

use llb::{Graph, Input, VertexId};
use lower::Plan;

/// The plans of all platforms of a build.
pub(crate) struct Targets {
    /// The first platform's plan, whose graph and layers are those of all: what they have in common
    /// is there once.
    pub(crate) whole: Plan,
    /// What each platform's image is made of, in vertices of that graph. Their own graphs are empty.
    pub(crate) each: Vec<Plan>,
}

impl Targets {
    /// Puts plans together, of which there is at least one.
    pub(crate) fn new(mut plans: Vec<Plan>) -> Self {
        let mut graph = std::mem::take(&mut plans[0].graph);
        for plan in &mut plans[1..] {
            join(&mut graph, plan);
        }
        let layers = plans.iter().flat_map(|plan| plan.layers.iter().copied());
        let whole = Plan {
            layers: layers.collect(),
            graph,
            ..plans[0].clone()
        };
        Self { whole, each: plans }
    }
}

/// Takes the vertices of a plan's graph into `graph`, and has the plan speak of those there.
fn join(graph: &mut Graph, plan: &mut Plan) {
    let own = std::mem::take(&mut plan.graph);
    let mut moved: HashMap<VertexId, VertexId> = HashMap::new();
    for (id, vertex) in own.vertices() {
        let inputs = vertex.inputs.iter().map(|input| there(&moved, *input));
        let (op, metadata) = (vertex.op.clone(), vertex.metadata.clone());
        moved.insert(id, graph.add(op, inputs.collect(), metadata));
    }
    plan.root = plan.root.map(|root| there(&moved, root));
    for layer in &mut plan.layers {
        layer.output = there(&moved, layer.output);
    }
}

fn there(moved: &HashMap<VertexId, VertexId>, input: Input) -> Input {
    Input {
        vertex: moved[&input.vertex],
        ..input
    }
}

#[cfg(test)]
mod tests {
    use lower::{Images, Options, ResolveError};
    use oci::{Platform, Reference};

    use super::*;

    struct Nothing;

    impl Images for Nothing {
        fn resolve(&self, _: &Reference, _: &Platform) -> Result<lower::BaseImage, ResolveError> {
            Err("nothing is built on an image here".into())
        }
    }

    fn plan(platform: &str, dockerfile: &str) -> Plan {
        let parsed = dockerfile_parser::parse(dockerfile.as_bytes());
        let options = Options {
            name_platform: true,
            ..Options::new(platform.parse().unwrap())
        };
        lower::plan(&parsed.dockerfile, &options, &Nothing).unwrap()
    }

    #[test]
    fn what_platforms_have_in_common_is_there_once() {
        let text = "FROM scratch\nCOPY a b\nARG TARGETARCH\nCOPY c /$TARGETARCH\n";
        let plans = vec![plan("linux/amd64", text), plan("linux/arm64", text)];
        let targets = Targets::new(plans);
        // The context, the first copy, and the second one for each.
        assert_eq!(targets.whole.graph.len(), 4);
        let [amd, arm] = &targets.each[..] else {
            panic!("two were planned")
        };
        assert_eq!(amd.layers[0], arm.layers[0]);
        assert_ne!(amd.root, arm.root);
        assert_eq!(targets.whole.layers.len(), 4);
        for plan in &targets.each {
            let root = plan.root.unwrap();
            let name = &targets.whole.graph.vertex(root.vertex).metadata.name;
            assert!(name.contains(&plan.platform.to_string()), "{name}");
        }
    }
}

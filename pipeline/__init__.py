"""The launcher's side: config, plan, graph, runners, supervision, commands, reports."""

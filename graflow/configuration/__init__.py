"""Settings of a project: what its `config.yaml` and the environment say, under which name and at which line.

A setting is looked for where it is given in code, then in the environment, then in `config.yaml`, then its default
holds. The section `redis` has the keys of a `backend_config` and is read with those (`graflow.redis.named`).
"""

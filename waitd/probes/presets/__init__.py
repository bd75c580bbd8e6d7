"""Job systems by name: a preset is data, one TOML file, and a kind of its own (`airbyte.job`, `bigquery.job`, …).

`README.md` shows those that come with waitd. `schema` holds the tables and their types, `checks` what types cannot say, `loading` reads files,
`templates` fills placeholders, `parameters` makes the model of a wait's `params`. `compiling` turns a file into targets of the machinery of
kind `http`, `submitting` into calls of `http_jobs`; `rules` judges answers, `dialects` are families of APIs, `connections` completes
Airflow's connections, `following` moves along `Location` headers, `probe` is the probe. `golden` runs a file's cases, `page` writes it down.

What does not live here: what an answer means once its state is known (`waitd.core.http.job_answer`), HTTP (`waitd.probes.http.probe`).

The format
==========

```toml
kind = "acme.job"                 # with a dot; also what users write
title = "Acme: a job"
docs = "Acme API v3, Jobs: Get"   # where its maker says so
tested = "nothing yet"            # what it was held against
notes = ""                        # what a user must know
replaces = false                  # true: it may take the place of a preset that comes with waitd
dialect = "aws"                   # optional: a family of APIs, see `dialects`

[connection]
param = "acme_conn_id"            # the parameter that names it
default = "acme_default"          # without one it is required, or with optional = true may be missing
auth = "bearer"                   # how credentials are sent, where the connection has some and no auth_type
auth_prefix = "Token"             # of bearer: sent instead of Bearer
auth_required = true              # a connection without credentials is refused
base_url = "https://api.acme.example"   # where the connection has no host; {name} is a field of its extra
scheme = "https"                  # of a host without one
api_path = "/api/v3"              # put after a URL that has no path
extra = { scope = "jobs" }        # fields of the extra that are missing, beside auth; {name} as above
aws_service = "glue"              # signed for this service, at its endpoint; adds the parameter region_name
aws_client = "glue"               # its name in Airflow's service_config, where that is another

[pace]                            # seconds
poke_interval = 30                # of a wait that names none
min_poke_interval = 5             # a shorter one is refused
not_found_grace = 60              # how long a job may be missing before that is a failure; 0: not at all

[params.job_id]                   # beside the connection's and request_timeout
type = "integer"                  # string, integer, boolean, object, array
description = "The job's id."
required = true                   # or default = …, or neither
example = 42                      # needed where it is required
# of strings: pattern, max_length, relative = true (a URL is refused); enum; of integers: minimum (0)

[request]
method = "GET"
path = "/jobs/{job_id}"           # {name}: a parameter, percent-encoded; {+name}: a whole endpoint
query = { region = "{region}" }   # what names a missing parameter is left out, here and in headers and json
headers = { Accept = "application/json" }
json = { id = "{job_id}" }        # a string that is nothing but a placeholder becomes the value; {null} is null
follow = false                    # true: Azure-AsyncOperation, Operation-Location, Location, Retry-After of a running job

[state]
value = "body.status.state"       # a path, which costs nothing, or CEL; a string or an integer
success = ["DONE"]
failure = ["FAILED"]
running = ["QUEUED", "RUNNING"]   # any other state goes on, too, and is counted
not_found = ["GONE"]              # a state that says that there is no such job

[state.items]                     # instead of value: the state is one of several conditions in a list
path = "body.status.conditions"
where = { status = "True" }
value = "type"
otherwise = "RUNNING"             # where none of them is on a list

[outcome]                         # CEL
error = "body.error.message"      # said of a failure, after its state
message = "body.note"             # said in every other case; default: the state
refusal = "body.detail"           # said of a 4xx
result = "body.result"            # the payload; default: the JSON body

[[answers]]                       # asked in their order about whatever is no 2xx; CEL
when = "status == 403 && body.reason == 'rateLimit'"
means = "not_now"                 # or unauthorized, not_found

[submit]                          # method (POST, PUT), path, query, headers, json as above; besides {idempotency_key}
path = "/jobs"
json = { name = "{name}", token = "{idempotency_key}" }
idempotent = true                 # a call with the same key makes no second job
idempotency_header = "X-Token"    # where the key goes, if {idempotency_key} stands nowhere
on_conflict = ["fail", "adopt"]   # what a wait may choose, the first by default: wait, adopt, fail
conflict_statuses = [409]
# [submit.params.NAME]            what a wait's submit takes, as [params.NAME]
# [submit.handle]                 job_id = "body.id": CEL for each parameter that the answer gives; also key, the idempotency key
# [submit.adopt]                  method, path, query, json; ours = true: it is this wait's own job
# [submit.adopt.handle]

[cancel]                          # method, path, query, headers, json as above, of a job that was submitted
path = "/jobs/{job_id}/cancel"
gone = [404, 409, 410]            # nothing to cancel any more

[[golden]]
name = "out of memory"            # or each = "running": once for each state of that list, with {state} in json, body and message
params = { job_id = 7 }           # over the examples
request = "GET /jobs/7"           # what is asked, if given
request_json = { id = 7 }         # and its body
status = 200
headers = { Retry-After = "7" }
json = { status = { state = "FAILED" }, error = { message = "out of memory" } }   # or body = "text"
verdict = "failure"               # success, failure, pending, unreachable
reason = "failure"                # these three only where they are given
message = "FAILED: out of memory"
payload = { rows = 3 }
```

Expressions are CEL over `status`, `headers`, `body` and `text`, as of kind `http`, and `params`. Besides its own cases every file is run
against answers that mean nothing and against a state that nobody has heard of.
"""

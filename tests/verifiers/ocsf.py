"""Validates OCSF events, one JSON object a line of standard input, against the 1.8.0 schema with
their profiles. Prints what is wrong, and last how many events of which classes were good.
"""

import collections
import json
import sys

from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

SCHEMA = OcsfJsonSchemaEmbedded(get_ocsf_schema(version="1.8.0"))
VALIDATORS = {}


def validator(uid, profiles):
    key = (uid, tuple(profiles))
    if key not in VALIDATORS:
        name = SCHEMA.lookup_class_name_from_uid(class_uid=uid)
        schema = SCHEMA.get_class_schema(class_name=name, profiles=list(profiles))
        VALIDATORS[key] = Draft202012Validator(schema)
    return VALIDATORS[key]


def main():
    good, bad = collections.Counter(), 0
    for number, line in enumerate(sys.stdin):
        event = json.loads(line)
        check = validator(event["class_uid"], event["metadata"].get("profiles", []))
        errors = list(check.iter_errors(event))
        if event["metadata"]["version"] != "1.8.0":
            errors.append("not of version 1.8.0")
        for error in errors:
            where = getattr(error, "json_path", "")
            print(f"event {number}, class {event['class_uid']}: {where} {getattr(error, 'message', error)!s:.300}")
        if errors:
            bad += 1
        else:
            good[event["class_uid"]] += 1
    print("valid:", " ".join(f"{uid}={count}" for uid, count in sorted(good.items())))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

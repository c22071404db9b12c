"""Tests of chart-readme.py: what it reads, and what it refuses."""

import importlib.util
import os
import unittest

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "chart-readme.py")
SPEC = importlib.util.spec_from_file_location("chart_readme", SCRIPT)
chart = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(chart)

TEXT = """# About the file.

# How many.
replicas: 1
image:
  # Where,
  # and of whom.
  repository: a/b
  # A | B.
  tag: ""
# As the process may.
security:
  # Taken away.
  drop: [ALL]
"""
SCHEMA = {"properties": {
    "global": {},
    "replicas": {},
    "image": {"properties": {"repository": {}, "tag": {}}},
    "security": {},
}}


class Readme(unittest.TestCase):
    def test_every_value_has_its_path_default_and_comment(self):
        self.assertEqual(chart.values(TEXT), [
            ("replicas", "1", "How many."),
            ("image.repository", "a/b", "Where, and of whom."),
            ("image.tag", '""', "A | B."),
            ("security", None, "As the process may."),
            ("security.drop", "[ALL]", "Taken away."),
        ])

    def test_a_value_without_a_comment_is_refused(self):
        with self.assertRaisesRegex(chart.Failure, r"values.yaml:3: .* image.tag does"):
            chart.values('# Told.\nimage:\n  tag: ""\n')

    def test_yaml_that_is_not_understood_is_refused(self):
        for text in ("# A.\na:\n    b: 1\n", "# A.\na:\n  - b\n", "# A.\na:\n\n# B.\nb: 1\n"):
            with self.assertRaises(chart.Failure, msg=text):
                chart.values(text)

    def test_values_and_schema_have_the_same_paths(self):
        found = chart.values(TEXT)
        chart.compare(found, SCHEMA)
        less = {"properties": {k: v for k, v in SCHEMA["properties"].items() if k != "replicas"}}
        with self.assertRaisesRegex(chart.Failure, "does not know replicas"):
            chart.compare(found, less)
        more = {"properties": {**SCHEMA["properties"], "emulate": {}}}
        with self.assertRaisesRegex(chart.Failure, "has no emulate"):
            chart.compare(found, more)

    def test_the_table_takes_the_place_of_the_old_one(self):
        old = f"above\n{chart.BEGIN}\nold\n{chart.END}\nbelow\n"
        new = chart.between(old, chart.table(chart.values(TEXT)))
        self.assertIn("| `image.tag` | `\"\"` | A \\| B. |", new)
        self.assertNotIn("old", new)
        self.assertEqual(chart.between(new, "old"), old)
        with self.assertRaises(chart.Failure):
            chart.between("no place", "table")


if __name__ == "__main__":
    unittest.main()

#!/usr/bin/python3
"""Makes statements_made.h and statements_made.c from schema.sql, statements.sql and migrations/.

Every statement is prepared against the schema here, so that a misspelt column stops the build and not a backup.
Usage: make_statements.py FOLDER_OF_CATALOG OUT.h OUT.c MIGRATION...
"""
import os
import re
import sqlite3
import sys

MARKS = ("derived", "recorded", "local")


def read_statements(path):
    """Yields (name, text) for each "-- name: what it does" and the one statement under it."""
    statements = []
    for number, line in enumerate(open(path, encoding="utf-8"), 1):
        begin = re.match(r"-- ([a-z][a-z0-9_]*): \S", line)
        if begin:
            statements.append([begin.group(1), ""])
        elif line.strip() and not line.startswith("--"):
            if not statements:
                sys.exit(f"{path}:{number}: a statement without a name")
            statements[-1][1] += line
    names = [name for name, _ in statements]
    for name, text in statements:
        if names.count(name) > 1:
            sys.exit(f"{path}: \"{name}\" stands twice")
        if not text.rstrip().endswith(";") or text.count(";") != 1:
            sys.exit(f"{path}: \"{name}\" is not one statement that ends with \";\"")
    return statements


def read_tables(path, database):
    """Yields (table, mark, columns, key columns) in the order of schema.sql."""
    tables, mark = [], None
    for number, line in enumerate(open(path, encoding="utf-8"), 1):
        comment = re.match(r"-- (\w+): ", line)
        if comment:
            mark = comment.group(1)
        create = re.match(r"CREATE TABLE (\w+) \(", line)
        if not create:
            continue
        if mark not in MARKS:
            sys.exit(f"{path}:{number}: table \"{create.group(1)}\" is marked with none of {', '.join(MARKS)}")
        info = database.execute("SELECT name, pk FROM pragma_table_info(?)", (create.group(1),)).fetchall()
        keys = [name for name, place in sorted(info, key=lambda row: row[1]) if place > 0]
        tables.append((create.group(1), mark, [name for name, _ in info], keys))
        mark = None
    return tables


def quote(text):
    lines = text.replace("\\", "\\\\").replace('"', '\\"').rstrip("\n").split("\n")
    return "\n    ".join(f'"{line}\\n"' for line in lines)


def main():
    folder, header_path, source_path, *migrations = sys.argv[1:]
    database = sqlite3.connect(":memory:")
    schema = os.path.join(folder, "schema.sql")
    database.executescript(open(schema, encoding="utf-8").read())
    statements = read_statements(os.path.join(folder, "statements.sql"))
    for name, text in statements:
        parameters = {parameter: None for parameter in re.findall(r":([a-z_0-9]+)", text)}
        try:
            database.execute("EXPLAIN " + text, parameters)
        except sqlite3.Error as error:
            sys.exit(f"statements.sql: \"{name}\": {error}")
    tables = read_tables(schema, database)

    with open(header_path, "w", encoding="utf-8") as out:
        out.write("/* statements_made.h - made by make_statements.py from statements.sql: the names of the statements */\n")
        out.write("#pragma once\n\nenum hf_sql {\n")
        for name, _ in statements:
            out.write(f"    HF_SQL_{name.upper()},\n")
        out.write("    HF_SQL_COUNT,\n};\n\n")
        out.write("extern const char *const hf_sql_names[HF_SQL_COUNT];\n")
        out.write("extern const char *const hf_sql_texts[HF_SQL_COUNT];\n")

    with open(source_path, "w", encoding="utf-8") as out:
        out.write("/* statements_made.c - made by make_statements.py */\n")
        out.write('#include "catalog/statements.h"\n\n')
        out.write("const char *const hf_sql_names[HF_SQL_COUNT] = {\n")
        for name, _ in statements:
            out.write(f'    [HF_SQL_{name.upper()}] = "{name}",\n')
        out.write("};\n\nconst char *const hf_sql_texts[HF_SQL_COUNT] = {\n")
        for name, text in statements:
            out.write(f"    [HF_SQL_{name.upper()}] =\n    {quote(text)},\n")
        out.write("};\n\nconst struct hf_catalog_table hf_catalog_tables[] = {\n")
        for table, mark, columns, keys in tables:
            listed = ", ".join(columns)
            dump = f"SELECT {listed} FROM {table} ORDER BY {', '.join(keys)}"
            copy = f"INSERT INTO main.{table} ({listed}) SELECT {listed} FROM old.{table}"
            out.write(f'    {{"{table}", HF_CATALOG_{mark.upper()},\n     "{dump}",\n     "{copy}"}},\n')
        out.write("};\nconst size_t hf_catalog_table_count = sizeof hf_catalog_tables / sizeof hf_catalog_tables[0];\n\n")
        out.write("const char *const hf_catalog_migrations[] = {\n")
        for number, path in enumerate(migrations, 1):
            if os.path.basename(path) != f"{number:04}.sql":
                sys.exit(f"{path}: migration {number} is expected")
            out.write(f"    {quote(open(path, encoding='utf-8').read())},\n")
        out.write("};\nconst size_t hf_catalog_migration_count =\n"
                  "    sizeof hf_catalog_migrations / sizeof hf_catalog_migrations[0];\n")


main()

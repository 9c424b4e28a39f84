// Files in a table, with lib/pq.
package main

import (
	"crypto/sha256"
	"database/sql"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/lib/pq"
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func bytesOf(content []byte) string {
	if content == nil {
		return "null"
	}
	return fmt.Sprintf("%T %d %x", content, len(content), sha256.Sum256(content))
}

// A nil slice is an empty value for some ways of sending it; a nil interface is NULL for all.
func value(content []byte) interface{} {
	if content == nil {
		return nil
	}
	return content
}

type document struct {
	name, note string
	content    []byte
}

func read(db *sql.DB, table string) (documents []document) {
	rows, err := db.Query("SELECT name, note, content FROM " + table + " ORDER BY name")
	check(err)
	defer rows.Close()
	for rows.Next() {
		var d document
		check(rows.Scan(&d.name, &d.note, &d.content))
		documents = append(documents, d)
	}
	check(rows.Err())
	return documents
}

func show(db *sql.DB, table string) {
	for _, d := range read(db, table) {
		fmt.Println("row", d.name, d.note, bytesOf(d.content))
	}
}

func main() {
	table, directory, mode := os.Args[1], os.Args[2], os.Args[3]
	options := "sslmode=disable"
	if mode == "binary_parameters" {
		options += " binary_parameters=yes"
	}
	db, err := sql.Open("postgres", options)
	check(err)
	defer db.Close()

	files, err := filepath.Glob(directory + "/*")
	check(err)
	var documents []document
	for _, file := range files {
		content, err := os.ReadFile(file)
		check(err)
		documents = append(documents, document{filepath.Base(file), "new", content})
	}
	documents = append(documents, document{"null", "new", nil})

	insert := "INSERT INTO " + table + " (name, note, content) VALUES ($1, $2, $3)"
	if mode == "copy" {
		transaction, err := db.Begin()
		check(err)
		copy, err := transaction.Prepare(pq.CopyIn(table, "name", "note", "content"))
		check(err)
		for _, d := range documents {
			_, err := copy.Exec(d.name, d.note, value(d.content))
			check(err)
		}
		_, err = copy.Exec()
		check(err)
		check(copy.Close())
		check(transaction.Commit())
	} else {
		for _, d := range documents {
			_, err := db.Exec(insert, d.name, d.note, value(d.content))
			check(err)
		}
	}
	show(db, table)
	rows, err := db.Query("SELECT content FROM " + table)
	check(err)
	types, err := rows.ColumnTypes()
	check(err)
	fmt.Println("type", types[0].DatabaseTypeName(), types[0].ScanType())
	check(rows.Close())

	var found string
	check(db.QueryRow("SELECT name FROM "+table+" WHERE content = $1", documents[0].content).Scan(&found))
	fmt.Println("found", found)
	_, err = db.Exec("UPDATE " + table + " SET note = 'changed'")
	check(err)
	for _, d := range read(db, table) {
		_, err := db.Exec(insert, "copy-of-"+d.name, "copied", value(d.content))
		check(err)
	}
	var deleted []byte
	check(db.QueryRow("DELETE FROM " + table + " WHERE name = 'empty' RETURNING content").Scan(&deleted))
	fmt.Println("deleted", bytesOf(deleted))
	show(db, table)
}

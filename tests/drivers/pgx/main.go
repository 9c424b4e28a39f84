// Files in a table, with pgx.
package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/jackc/pgx/v4"
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

func read(db *pgx.Conn, table string) (documents []document) {
	rows, err := db.Query(context.Background(), "SELECT name, note, content FROM "+table+" ORDER BY name")
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

func show(db *pgx.Conn, table string) {
	for _, d := range read(db, table) {
		fmt.Println("row", d.name, d.note, bytesOf(d.content))
	}
}

func main() {
	table, directory, mode := os.Args[1], os.Args[2], os.Args[3]
	ctx := context.Background()
	config, err := pgx.ParseConfig("sslmode=disable")
	check(err)
	config.PreferSimpleProtocol = mode == "simple"
	db, err := pgx.ConnectConfig(ctx, config)
	check(err)
	defer db.Close(ctx)

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
		rows := pgx.CopyFromSlice(len(documents), func(i int) ([]interface{}, error) {
			return []interface{}{documents[i].name, documents[i].note, value(documents[i].content)}, nil
		})
		_, err := db.CopyFrom(ctx, pgx.Identifier{table}, []string{"name", "note", "content"}, rows)
		check(err)
	} else {
		for _, d := range documents {
			_, err := db.Exec(ctx, insert, d.name, d.note, value(d.content))
			check(err)
		}
	}
	show(db, table)
	rows, err := db.Query(ctx, "SELECT content FROM "+table)
	check(err)
	fmt.Println("type", rows.FieldDescriptions()[0].DataTypeOID)
	rows.Next()
	values, err := rows.Values()
	check(err)
	fmt.Printf("value %T\n", values[0])
	rows.Close()

	var found string
	check(db.QueryRow(ctx, "SELECT name FROM "+table+" WHERE content = $1", documents[0].content).Scan(&found))
	fmt.Println("found", found)
	_, err = db.Exec(ctx, "UPDATE "+table+" SET note = 'changed'")
	check(err)
	for _, d := range read(db, table) {
		_, err := db.Exec(ctx, insert, "copy-of-"+d.name, "copied", value(d.content))
		check(err)
	}
	var deleted []byte
	check(db.QueryRow(ctx, "DELETE FROM "+table+" WHERE name = 'empty' RETURNING content").Scan(&deleted))
	fmt.Println("deleted", bytesOf(deleted))
	show(db, table)
}

// Files in a table, with pgjdbc.

import java.io.ByteArrayInputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.Statement;
import java.util.HexFormat;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.Stream;

public class Main {
    static String table;
    static Connection db;

    static String bytesOf(byte[] content) throws Exception {
        if (content == null) return "null";
        byte[] digest = MessageDigest.getInstance("SHA-256").digest(content);
        return content.getClass().getSimpleName() + " " + content.length + " " + HexFormat.of().formatHex(digest);
    }

    static void show(boolean stream) throws Exception {
        String sql = "SELECT name, note, content FROM " + table + " ORDER BY name";
        try (PreparedStatement select = db.prepareStatement(sql); ResultSet rows = select.executeQuery()) {
            while (rows.next()) {
                byte[] content = rows.getBytes(3);
                if (stream && content != null) content = rows.getBinaryStream(3).readAllBytes();
                System.out.println("row " + rows.getString(1) + " " + rows.getString(2) + " " + bytesOf(content));
            }
        }
    }

    static void insert(String name, String note, byte[] content, boolean stream) throws Exception {
        String sql = "INSERT INTO " + table + " (name, note, content) VALUES (?, ?, ?)";
        try (PreparedStatement insert = db.prepareStatement(sql)) {
            insert.setString(1, name);
            insert.setString(2, note);
            if (stream && content != null) insert.setBinaryStream(3, new ByteArrayInputStream(content), content.length);
            else insert.setBytes(3, content);
            insert.executeUpdate();
        }
    }

    // The note of every row, and a copy of every row, through a result set that can be changed.
    static void changeInResultSet() throws Exception {
        String sql = "SELECT id, name, note, content FROM " + table + " ORDER BY name";
        try (Statement select = db.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE);
                ResultSet rows = select.executeQuery(sql);
                ResultSet copies = db.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE)
                        .executeQuery(sql)) {
            while (rows.next()) {
                rows.updateString("note", "changed");
                rows.updateBytes("content", rows.getBytes("content"));
                rows.updateRow();
                copies.moveToInsertRow();
                copies.updateInt("id", 1000 + rows.getInt("id"));
                copies.updateString("name", "copy-of-" + rows.getString("name"));
                copies.updateString("note", "copied");
                copies.updateBytes("content", rows.getBytes("content"));
                copies.insertRow();
            }
        }
    }

    static void changeByStatements(boolean stream) throws Exception {
        try (Statement update = db.createStatement()) {
            update.executeUpdate("UPDATE " + table + " SET note = 'changed'");
        }
        String sql = "SELECT name, content FROM " + table + " ORDER BY name";
        try (PreparedStatement select = db.prepareStatement(sql); ResultSet rows = select.executeQuery()) {
            while (rows.next()) insert("copy-of-" + rows.getString(1), "copied", rows.getBytes(2), stream);
        }
    }

    public static void main(String[] args) throws Exception {
        table = args[0];
        String mode = args[2];
        List<Path> files;
        try (Stream<Path> listed = Files.list(Path.of(args[1]))) {
            files = listed.sorted().collect(Collectors.toList());
        }
        String options = switch (mode) {
            case "prepared" -> "prepareThreshold=1"; // binary format, too
            case "binary" -> "prepareThreshold=-1";
            default -> "";
        };
        boolean stream = mode.equals("streams");
        String url = String.format("jdbc:postgresql://%s:%s/%s?user=%s&%s", System.getenv("PGHOST"), System.getenv("PGPORT"),
                System.getenv("PGDATABASE"), System.getenv("PGUSER"), options);
        db = DriverManager.getConnection(url);

        for (Path file : files) insert(file.getFileName().toString(), "new", Files.readAllBytes(file), stream);
        insert("null", "new", null, stream);
        show(stream);
        try (Statement select = db.createStatement(); ResultSet rows = select.executeQuery("SELECT content FROM " + table)) {
            System.out.println("type " + rows.getMetaData().getColumnTypeName(1) + " " + rows.getMetaData().getColumnClassName(1));
        }

        String find = "SELECT name FROM " + table + " WHERE content = ?";
        try (PreparedStatement select = db.prepareStatement(find)) {
            for (int time = 0; time < 7; time++) {
                select.setBytes(1, Files.readAllBytes(files.get(0)));
                try (ResultSet rows = select.executeQuery()) {
                    rows.next();
                    System.out.println("found " + rows.getString(1));
                }
            }
        }
        if (mode.equals("updatable")) changeInResultSet();
        else changeByStatements(stream);
        String delete = "DELETE FROM " + table + " WHERE name = 'empty' RETURNING content";
        try (Statement statement = db.createStatement(); ResultSet rows = statement.executeQuery(delete)) {
            rows.next();
            System.out.println("deleted " + bytesOf(rows.getBytes(1)));
        }
        // From the fifth execution on a statement is prepared, by default.
        for (int time = 0; time < 6; time++) show(stream);
        db.close();
    }
}

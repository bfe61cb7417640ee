// Turns words around: `GET /WORD` answers with the word backwards.
import express from "express";

const app = express();
const port = Number(process.env.PORT ?? 3000);

app.get("/:word", (request, answer) => {
  const backwards = [...request.params.word].reverse().join("");
  answer.json({ word: request.params.word, backwards, mode: process.env.NODE_ENV });
});

const server = app.listen(port, () => console.log(`listening on ${port}`));
process.on("SIGTERM", () => server.close());
